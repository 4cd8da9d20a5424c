"""The scheduler and its tasks, case by case: situation, event, decision."""

from __future__ import annotations

import pytest
from fakeworld import Item, World
from worlds import finish, hand, known, make_world, ready_world

from offloop.child.runner import FLUSH_AFTER
from offloop.scheduling.pace import MAX_PLAN
from offloop.scheduling.prefetch import EXPECTED_AT_MOST, MAX_HAND, PATIENCE, SHORT, STALLED, TICK
from offloop.scheduling.scheduler import MIN_DEAL
from offloop.scheduling.state import STARTING, WorkerState


class TestStarting:
    def test_workers_are_started_for_the_tasks_there_are_up_to_the_limit(self) -> None:
        world = make_world(3)
        world.enqueue()
        assert len(world.turn().start) == 1
        for _ in range(5):
            world.enqueue()
        assert len(world.turn().start) == 2
        assert not world.turn()

    def test_min_workers_start_without_a_task(self) -> None:
        world = make_world(3, min_workers=2)
        assert len(world.turn().start) == 2

    def test_nothing_is_sent_to_a_worker_that_is_not_ready(self) -> None:
        world = make_world(1)
        world.enqueue()
        worker = world.turn().start[0]
        assert worker.phase == STARTING
        assert not world.turn().dispatch

    def test_a_worker_that_could_not_start_is_replaced_while_tasks_wait(self) -> None:
        world = make_world(1)
        world.enqueue()
        world.turn()
        world.notice_death(world.workers[1])
        assert [worker.number for worker in world.turn().start] == [2]

    def test_after_failed_starts_the_minimum_is_started_again_once_one_is_ready(self) -> None:
        world = make_world(3, min_workers=2)
        _, good = world.turn().start
        world.notice_death(world.workers[1])
        world.scheduler.discouraged = True  # as the shell says after three in a row
        assert not world.turn()
        world.workers[good.number].set_up()
        world.hear(world.workers[good.number])
        assert [worker.number for worker in world.turn().start] == [3]

    def test_would_start_at_once_while_a_worker_is_idle_or_may_be_started(self) -> None:
        world, (worker,) = ready_world(1)
        assert world.scheduler.would_start_at_once
        world.enqueue()
        assert not world.scheduler.would_start_at_once
        world.turn()
        assert hand(worker)
        assert not world.scheduler.would_start_at_once

    def test_what_waits_takes_one_place_each_before_and_while_its_worker_starts(self) -> None:
        world = make_world(2)
        world.enqueue()
        assert world.scheduler.would_start_at_once, "the second worker"
        world.turn()
        assert world.scheduler.would_start_at_once
        world.enqueue()
        assert not world.scheduler.would_start_at_once
        world.turn()
        assert not world.scheduler.would_start_at_once


class TestSharingOut:
    def test_every_empty_hand_gets_a_task_before_any_gets_two(self) -> None:
        world, (one, two) = ready_world(2)
        kind = known()
        for _ in range(2):
            world.enqueue(kind)
        world.turn()
        assert len(one.hand) == len(two.hand) == 1

    def test_many_short_tasks_are_shared_evenly(self) -> None:
        world, workers = ready_world(2)
        kind = known(1e-6)
        for _ in range(60):
            world.enqueue(kind)
        world.turn()
        assert [len(worker.hand) for worker in workers] == [30, 30]

    def test_of_many_idle_workers_those_that_are_woken_get_enough_to_be_worth_it(self) -> None:
        world, workers = ready_world(32)
        kind = known(1e-6)
        for _ in range(32 * 2 * MIN_DEAL):
            world.enqueue(kind)
        first = world.turn()
        assert [len(items) for _, items in first.dispatch] == [MIN_DEAL] * (MAX_PLAN // MIN_DEAL)
        for _ in range(32 * MIN_DEAL // MAX_PLAN - 1):
            world.turn()
        assert [len(worker.hand) for worker in workers] == [MIN_DEAL] * 32

    def test_few_tasks_are_spread_over_all_idle_workers(self) -> None:
        world, workers = ready_world(8)
        for _ in range(16):
            world.enqueue(known(1e-6))
        world.turn()
        assert [len(worker.hand) for worker in workers] == [2] * 8

    def test_higher_priority_goes_first_and_equal_priority_in_order(self) -> None:
        world, (worker,) = ready_world(1)
        kind = known()
        low = [world.enqueue(kind, priority=-1).id for _ in range(2)]
        middle = [world.enqueue(kind).id for _ in range(2)]
        high = [world.enqueue(kind, priority=7).id for _ in range(2)]
        world.turn()
        assert hand(worker) == [*high, *middle, *low]

    def test_a_plan_is_cut_short_and_says_so(self) -> None:
        world, _ = ready_world(3)
        kind = known(1e-9)
        for _ in range(3 * MAX_HAND):
            world.enqueue(kind)
        plan = world.turn()
        assert sum(len(items) for _, items in plan.dispatch) == MAX_PLAN
        assert world.scheduler.more
        assert world.is_turn_due
        world.drain()
        assert not world.open

    def test_a_cancelled_task_is_never_sent(self) -> None:
        world, (worker,) = ready_world(1)
        kind = known()
        items = [world.enqueue(kind) for _ in range(3)]
        world.cancel(items[1])
        world.turn()
        assert hand(worker) == [items[0].id, items[2].id]

    def test_a_task_that_cannot_be_sent_leaves_room_for_the_next(self) -> None:
        world, (worker,) = ready_world(1)
        world.enqueue()
        world.turn()
        world.send_failed(world.workers[1])
        assert worker.load == 0.0
        after = world.enqueue()
        world.turn()
        assert hand(worker) == [after.id]


class TestRecalling:
    def stuck(self, **limits: float) -> tuple[World, list[WorkerState[Item]], list[Item]]:
        """The first of two workers holds four tasks and does not get on; the second is idle."""
        world, (one, two) = ready_world(2, **limits)
        world.enqueue()
        world.turn()
        busy, idle = (one, two) if two.hand else (two, one)
        kind = known()
        items = [world.enqueue(kind) for _ in range(4)]
        while len(busy.hand) < 4:
            assert world.turn().dispatch
        assert hand(busy) == [item.id for item in items]
        finish(world, idle)
        assert not idle.hand
        return world, [busy, idle], items

    def test_half_is_recalled_from_a_silent_worker_for_an_idle_one(self) -> None:
        world, (busy, idle), items = self.stuck()
        world.now += PATIENCE * 1.5
        plan = world.turn()
        assert plan.recall == [(busy, items[2:])]
        fake = world.workers[busy.number]
        fake.obey()
        world.hear_returned(fake)
        world.turn()
        assert set(hand(idle)) <= {item.id for item in items[2:]}
        assert hand(idle)

    @pytest.mark.parametrize("latency", [0.0, 0.02])
    def test_a_worker_is_silent_after_its_patience_and_what_travels_takes_longer(
        self, latency: float
    ) -> None:
        world, (busy, _), items = self.stuck(latency=latency)
        world.now = busy.progress + latency + PATIENCE * 0.9
        assert world.scheduler.silent_workers(world.now) == []
        assert not world.turn().recall
        world.now = busy.progress + latency + PATIENCE * 1.5
        assert world.scheduler.silent_workers(world.now) == [busy]
        assert world.turn().recall == [(busy, items[2:])]

    @pytest.mark.parametrize("seconds", [0.0005, 0.005, 0.04])
    def test_where_nobody_could_help_it_is_silent_once_its_first_task_should_have_ended(
        self, seconds: float
    ) -> None:
        world, workers = self.both_ahead(seconds, SHORT / 2)
        world.now = workers[0].progress + PATIENCE * 1.5
        assert world.scheduler.silent_workers(world.now) == []
        due = world.scheduler.next_look(world.now)
        assert due >= workers[0].progress + min(seconds, EXPECTED_AT_MOST) + PATIENCE
        assert set(world.scheduler.silent_workers(due)) == set(workers)
        assert world.scheduler.next_look(due) == due + TICK

    def both_ahead(
        self, first: float, second: float, *, place: bool = False
    ) -> tuple[World, list[WorkerState[Item]]]:
        """Each of two workers holds two tasks that should take so long; perhaps there is room for a third."""
        world, workers = ready_world(2)
        world.scheduler.limits = world.scheduler.limits._replace(max_workers=2 + place)
        for seconds in (first, second):
            kind = known(seconds)
            for _ in range(2):
                world.enqueue(kind)
            world.turn()
        assert [len(worker.hand) for worker in workers] == [2, 2]
        return world, workers

    def test_nobody_is_looked_at_who_has_nothing_to_say_and_whom_nobody_could_help(self) -> None:
        world, workers = self.both_ahead(SHORT / 2, SHORT * 2)
        assert not world.scheduler.is_watching
        assert world.scheduler.silent_workers(world.now + 10) == []
        for item in list(workers[0].hand.values()):
            world.scheduler.finished(workers[0], item, 0.001, world.now)
        assert world.scheduler.is_watching, "now somebody could help"
        assert world.scheduler.silent_workers(world.now + 10) == [workers[1]]

    def test_a_worker_sends_what_waits_before_any_task_that_is_not_short(self) -> None:
        assert FLUSH_AFTER <= SHORT

    def test_a_worker_whose_tasks_overlap_is_looked_at_whatever_they_take(self) -> None:
        world, (worker,) = ready_world(1, slots=2)
        kind = known(SHORT * 2)
        for _ in range(3):
            world.enqueue(kind)
        world.turn()
        assert len(worker.hand) == 3
        assert world.scheduler.is_watching

    def test_where_another_worker_could_be_started_a_stuck_one_gives_back_what_it_has(self) -> None:
        world, workers = self.both_ahead(0.005, 0.005, place=True)
        world.now = world.scheduler.next_look(world.now + 2 * STALLED)
        assert set(world.scheduler.silent_workers(world.now)) == set(workers)
        assert [worker for worker, _ in world.turn().recall] == workers

    def test_whoever_ends_what_was_short_is_looked_at_no_more(self) -> None:
        world, workers = self.both_ahead(0.005, SHORT / 2)
        assert world.scheduler.is_watching
        for worker in workers:
            finish(world, worker)
        assert not world.scheduler.is_watching

    def test_nothing_is_recalled_from_a_worker_that_gets_on(self) -> None:
        world, (busy, _), _ = self.stuck()
        finish(world, busy, PATIENCE * 1.5)
        assert not world.turn().recall

    def test_all_is_recalled_from_a_stalled_worker_once(self) -> None:
        world, (busy, _), items = self.stuck()
        world.now += STALLED * 1.5
        assert world.turn().recall == [(busy, items[1:])]
        assert not world.turn().recall

    def test_what_started_meanwhile_is_not_given_back(self) -> None:
        world, (busy, _), items = self.stuck()
        world.now += STALLED * 1.5
        world.turn()
        fake = world.workers[busy.number]
        fake.begin(world.now)
        fake.finish(items[0].id, world.now)
        fake.begin(world.now)
        fake.obey()
        assert list(fake.returned) == [[item.id for item in items[2:]]]
        world.drain()
        assert all(item.starts == 1 and item.outcome == "done" for item in items)

    def test_a_task_that_ran_although_recalled_is_forgotten_as_recalled(self) -> None:
        world, (busy, _), items = self.stuck()
        world.now += STALLED * 1.5
        world.turn()
        fake = world.workers[busy.number]
        for item in items[:2]:
            fake.begin(world.now)
            fake.finish(item.id, world.now)
            world.hear(fake)
        assert busy.recalled == {items[2].id, items[3].id}


class TestKeys:
    def test_equal_keys_go_to_the_same_worker_even_while_another_is_idle(self) -> None:
        world, (one, two) = ready_world(2)
        first = world.enqueue(key="a")
        world.drain()
        for _ in range(5):
            for _ in range(2):
                world.enqueue()  # one for each, so that either may be the last to fall idle
            world.drain()
            item = world.enqueue(key="a")
            world.drain()
            assert item.outcome == "done"
            assert item.worker is first.worker
        assert one.given > 5
        assert two.given > 5

    def test_a_busy_key_holds_up_no_other_task(self) -> None:
        world, workers = ready_world(2)
        first = world.enqueue(key="a")
        world.turn()
        behind = world.enqueue(key="a")
        other = world.enqueue()
        world.turn()
        assert behind.worker is None
        assert first.worker is not other.worker
        assert other.worker in workers

    def test_equal_keys_run_in_order_also_where_the_owner_comes_last(self) -> None:
        world, workers = ready_world(2)
        world.enqueue(key="a")
        world.drain()
        owner, other = sorted(workers, key=lambda worker: not worker.keys)
        for _ in range(2):
            world.enqueue()
        world.turn()
        finish(world, owner)
        finish(world, other)  # and so is the first to be given a task
        kind = known()
        items = [world.enqueue(kind, key=key) for key in ("a", None, "a")]
        world.turn()
        assert hand(owner) == [items[0].id, items[2].id]

    def test_a_key_moves_when_its_worker_dies_and_its_tasks_with_it(self) -> None:
        world, _ = ready_world(2)
        items = [world.enqueue(key="a") for _ in range(3)]
        world.turn()
        owner = items[0].worker
        assert owner is not None
        fake = world.workers[owner.number]
        fake.begin(world.now)
        fake.is_alive = False
        world.notice_death(fake)
        world.drain()
        assert [item.outcome for item in items] == ["crashed", "done", "done"]
        assert items[1].worker is items[2].worker
        assert items[1].worker is not owner

    def test_a_key_does_not_wait_for_a_worker_that_was_told_to_stop(self) -> None:
        world, _ = ready_world(2, idle_timeout=1.0)
        world.enqueue(key="a")
        world.drain()
        world.now += 2.0
        assert len(world.turn().stop) == 2
        item = world.enqueue(key="a")
        assert len(world.turn().start) == 1
        fresh = world.workers[3]
        fresh.set_up()
        world.hear(fresh)
        world.turn()
        assert item.worker is fresh.state


@pytest.mark.parametrize("slots", [1, 3])
def test_a_worker_holds_no_more_unknown_tasks_than_it_runs(slots: int) -> None:
    world, (worker,) = ready_world(1, slots=slots)
    for _ in range(10):
        world.enqueue()
    world.turn()
    assert len(worker.hand) == slots
