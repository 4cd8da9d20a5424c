"""The scheduler and its workers' lives, case by case: situation, event, decision."""

from __future__ import annotations

import pytest
from worlds import known, make_world, ready_world

from offloop.scheduling.state import GONE, READY, RETIRING, STOPPING


def test_a_worker_that_starts_for_a_key_is_not_counted_on_by_others() -> None:
    world = make_world(3)
    world.enqueue(key="a")
    world.drain()
    world.enqueue(key="a")
    world.enqueue(key="b")
    world.turn()
    world.enqueue()
    assert len(world.turn().start) == 1


class TestTheShortWay:
    """Of a task that is all there is to decide about; `shortcuts.lone_plan` holds it against the long one."""

    def test_it_is_that_of_a_key_that_has_a_worker(self) -> None:
        world, _ = ready_world(2)
        first = world.enqueue(known(), key="a")
        world.drain()
        second = world.enqueue(known(), key="a")
        assert world.scheduler.lone(world.now) == (first.worker, second)

    def test_it_is_not_that_of_a_new_key_or_of_one_whose_worker_is_busy(self) -> None:
        world, _ = ready_world(2)
        new = world.enqueue(known(), key="a")
        assert world.scheduler.lone(world.now) is None
        world.turn()
        assert new.worker is not None
        world.enqueue(known(), key="a")
        assert world.scheduler.lone(world.now) is None

    def test_it_is_that_of_a_lease(self) -> None:
        world, _ = ready_world(2)
        worker = world.lease()
        item = world.enqueue(known(), pin=worker.number)
        assert world.scheduler.lone(world.now) == (worker, item)
        assert not world.scheduler.plan(world.now), "nothing is left to do"

    def test_it_is_not_that_of_a_lease_whose_worker_is_busy_or_while_others_wait(self) -> None:
        world, _ = ready_world(1)
        worker = world.lease()
        world.enqueue(known(), pin=worker.number)
        world.enqueue(known())
        assert world.scheduler.lone(world.now) is None
        world.turn()
        world.enqueue(known(), pin=worker.number)
        assert world.scheduler.lone(world.now) is None


class TestLeases:
    def test_an_idle_worker_is_leased_before_a_new_one(self) -> None:
        world, (worker,) = ready_world(1, min_workers=1)
        assert world.lease() is worker

    def test_a_lease_starts_its_worker_at_the_first_task(self) -> None:
        world = make_world(2)
        worker = world.lease()
        assert not world.turn()
        item = world.enqueue(pin=worker.number)
        assert world.turn().start == [worker]
        world.drain()
        assert item.outcome == "done"
        assert item.worker is worker

    def test_shared_tasks_prefer_workers_without_a_lease(self) -> None:
        world, workers = ready_world(2)
        leased = world.lease()
        world.enqueue()
        world.turn()
        assert not leased.hand
        world.enqueue()
        world.turn()
        assert all(worker.hand for worker in workers), "the leased one helps when no other is idle"

    def test_a_lease_that_is_not_used_does_not_starve_the_pool(self) -> None:
        world = make_world(1)
        worker = world.lease()
        item = world.enqueue()
        world.drain()
        assert item.outcome == "done"
        assert item.worker is worker

    def test_a_lease_given_back_unused_leaves_nothing(self) -> None:
        world = make_world(1)
        world.release(world.lease())
        assert not world.scheduler.workers

    def test_a_lease_given_back_with_its_only_task_cancelled_leaves_nothing(self) -> None:
        world = make_world(1)
        worker = world.lease()
        item = world.enqueue(pin=worker.number)
        world.release(worker)
        world.cancel(item)
        world.turn()
        assert worker.phase == GONE
        after = world.enqueue()
        world.drain()
        assert after.outcome == "done"

    def test_a_lease_whose_worker_does_not_start_has_it_started_again(self) -> None:
        world = make_world(1)
        worker = world.lease()
        leased, shared = world.enqueue(pin=worker.number), world.enqueue()
        world.turn()
        world.notice_death(world.workers[worker.number])
        assert world.turn().start == [worker]
        world.drain()
        assert [item.outcome for item in (leased, shared)] == ["done", "done"]
        assert leased.worker is worker

    def test_a_dismissed_worker_waits_for_no_lease_and_no_other_worker(self) -> None:
        world, (worker,) = ready_world(1)
        assert world.lease() is worker
        world.retire(worker, dismiss=True)
        plan = world.turn()
        assert plan.stop == [worker]

    def test_a_lease_ended_before_its_worker_started_still_runs_its_tasks(self) -> None:
        world = make_world(1)
        worker = world.lease()
        items = [world.enqueue(pin=worker.number) for _ in range(2)]
        world.release(worker)
        world.retire(worker)
        world.drain()
        assert [item.outcome for item in items] == ["done", "done"]
        assert worker.phase == GONE

    @pytest.mark.parametrize("was_ready", [True, False])
    def test_what_waits_for_the_worker_of_an_ended_lease_is_in_good_hands(self, was_ready: bool) -> None:
        world = make_world(2)
        worker = world.lease()
        items = [world.enqueue(known(5.0), pin=worker.number) for _ in range(2)]
        world.turn()
        if was_ready:
            world.workers[worker.number].set_up()
            world.hear(world.workers[worker.number])
            world.turn()
        world.release(worker)
        world.retire(worker)
        shared = world.enqueue()
        assert worker.phase == RETIRING
        assert world.scheduler.waiting_for_starts() == [shared]
        assert items[1] in world.scheduler.waiting()

    def test_tasks_of_a_lease_whose_worker_dies_are_orphaned(self) -> None:
        world, _ = ready_world(2)
        worker = world.lease()
        items = [world.enqueue(pin=worker.number) for _ in range(3)]
        world.turn()
        fake = world.workers[worker.number]
        fake.begin(world.now)
        world.notice_death(fake)
        assert [item.outcome for item in items] == ["crashed", "orphaned", "orphaned"]

    def test_a_leased_worker_that_idles_too_long_arms_no_timer(self) -> None:
        world, _ = ready_world(1, idle_timeout=1.0)
        world.lease()
        world.now += 5.0
        assert not world.turn().stop
        assert world.scheduler.idle_deadline() is None


class TestStarting:
    def test_no_worker_starts_for_tasks_that_idle_ones_get_in_the_next_plan(self) -> None:
        world = make_world(3)
        for _ in range(2):
            world.enqueue()
        world.drain()
        world.scheduler.pace.most = 1  # sending took long
        items = [world.enqueue() for _ in range(2)]
        assert not world.turn().start
        assert world.scheduler.more
        world.drain()
        assert [item.outcome for item in items] == ["done"] * 2
        assert len(world.scheduler.workers) == 2


class TestRetiring:
    def test_an_idle_worker_retires_after_its_timeout_down_to_the_minimum(self) -> None:
        world, workers = ready_world(3, min_workers=1, idle_timeout=1.0)
        assert not world.turn().stop
        deadline = world.scheduler.idle_deadline()
        assert deadline is not None
        world.now = deadline + 1.0
        stopped = world.turn().stop
        assert len(stopped) == 2
        assert world.scheduler.idle_deadline() is None
        world.drain()
        assert [worker.phase for worker in workers].count(READY) == 1

    def test_a_worker_whose_last_result_came_late_retires_in_time(self) -> None:
        world, (worker,) = ready_world(1, idle_timeout=1.0)
        world.enqueue()
        world.turn()
        fake = world.workers[worker.number]
        fake.begin(world.now)
        fake.finish(next(iter(fake.running)), world.now)
        world.now += 1.5
        world.turn()  # the event loop was held up: a plan is made before the result is read
        world.hear(fake)
        deadline = world.scheduler.idle_deadline()
        assert deadline is not None
        assert deadline <= world.now
        assert world.turn().stop == [worker], "else its timer would be due again and again"

    def test_a_worker_is_replaced_before_it_retires(self) -> None:
        world, (worker,) = ready_world(1)
        world.retire(worker)
        plan = world.turn()
        assert [started.number for started in plan.start] == [2]
        assert not plan.stop
        world.workers[2].set_up()
        world.hear(world.workers[2])
        assert world.turn().stop == [worker]

    def test_without_room_for_both_a_worker_retires_before_it_is_replaced(self) -> None:
        for end in ("retire", "replace"):
            world, (worker,) = ready_world(1, has_spare=False)
            getattr(world, end)(worker)
            plan = world.turn()
            assert [started.number for started in plan.start] == [2]
            assert plan.stop == [worker]

    def test_a_worker_works_on_until_the_one_in_its_place_is_there(self) -> None:
        world, (worker,) = ready_world(1)
        world.replace(worker)
        plan = world.turn()
        assert [started.number for started in plan.start] == [2]
        item = world.enqueue()
        assert world.turn().dispatch == [(worker, [item])]
        world.drain()
        assert item.worker is worker
        assert worker.phase == GONE
        assert [w.number for w in world.scheduler.workers.values()] == [2]

    def test_a_worker_to_be_replaced_is_not_leased_and_idles_out_for_no_other_reason(self) -> None:
        world, (worker,) = ready_world(1, idle_timeout=1.0)
        world.replace(worker)
        world.turn()
        assert world.scheduler.idle_deadline() is None
        world.now += 5.0
        assert not world.turn().stop
        assert world.lease() is not worker

    def test_a_worker_whose_place_a_lease_took_retires_at_once(self) -> None:
        world, (worker,) = ready_world(1)
        world.replace(worker)
        world.lease()
        plan = world.turn()
        assert not plan.start
        assert plan.stop == [worker]

    def test_a_worker_to_be_replaced_helps_to_finish_when_the_pool_closes(self) -> None:
        world, (worker,) = ready_world(1)
        world.replace(worker)
        world.close()
        item = world.enqueue()
        plan = world.turn()
        assert not plan.start
        assert plan.dispatch == [(worker, [item])]
        world.drain()
        assert not world.scheduler.workers

    def test_a_worker_that_is_starting_retires_once_it_has_started(self) -> None:
        world = make_world(1)
        world.enqueue()
        worker = world.turn().start[0]
        world.retire(worker)
        world.drain()
        assert worker.phase == GONE
        assert not world.open

    def test_a_worker_retires_after_its_most_tasks_and_none_is_lost(self) -> None:
        world = make_world(1, max_tasks_per_worker=3)
        kind = known()
        items = [world.enqueue(kind) for _ in range(10)]
        world.drain()
        assert all(item.outcome == "done" for item in items)
        numbers = [item.worker.number for item in items if item.worker is not None]
        assert max(map(numbers.count, numbers)) == 3

    def test_retiring_and_leasing_at_once_keep_to_the_limit(self) -> None:
        world, (worker,) = ready_world(1)
        world.retire(worker)
        world.lease()
        world.turn()
        living = [w for w in world.scheduler.workers.values() if w.phase <= READY]
        assert len(living) == 1
        world.drain()
        assert worker.phase == GONE


class TestDying:
    def test_only_what_had_begun_is_lost(self) -> None:
        world, (worker,) = ready_world(1)
        kind = known()
        items = [world.enqueue(kind) for _ in range(4)]
        world.turn()
        fake = world.workers[worker.number]
        fake.begin(world.now)
        fake.finish(items[0].id, world.now)
        fake.begin(world.now)
        fake.is_alive = False
        world.notice_death(fake)
        assert [item.outcome for item in items] == ["done", "crashed", "", ""]
        assert world.scheduler.waiting() == items[2:]
        world.drain()
        assert [item.outcome for item in items[2:]] == ["done", "done"]

    def test_a_killed_worker_that_says_ready_late_stays_dead(self) -> None:
        world = make_world(1)
        world.enqueue()
        worker = world.turn().start[0]
        fake = world.workers[worker.number]
        fake.set_up()
        world.kill_worker(worker)
        world.hear(fake)
        assert worker.phase == STOPPING
        assert not world.turn().dispatch
        world.drain()
        assert not world.open

    def test_what_waits_for_a_killed_worker_is_still_seen_waiting(self) -> None:
        world, _ = ready_world(2)
        items = [world.enqueue(key="a") for _ in range(3)]
        world.turn()
        owner = items[0].worker
        assert owner is not None
        assert list(owner.keyed) == items[1:]
        world.kill_worker(owner)
        assert world.scheduler.queued == 2
        assert world.scheduler.waiting() == items[1:]


class TestClosing:
    def test_what_is_queued_is_finished_first(self) -> None:
        world, _ = ready_world(2)
        items = [world.enqueue() for _ in range(5)]
        world.close()
        world.drain()
        assert all(item.outcome == "done" for item in items)
        assert not world.scheduler.workers

    def test_closing_stops_idle_leased_and_starting_workers(self) -> None:
        world, _ = ready_world(1)
        world.lease()
        world.close()
        assert len(world.turn().stop) == 1
        starting = make_world(1, min_workers=1)
        starting.turn()
        starting.close()
        starting.drain()
        assert not starting.workers
        assert not starting.scheduler.workers

    def test_min_workers_are_not_kept_up(self) -> None:
        world, workers = ready_world(1, min_workers=1)
        world.close()
        world.drain()
        assert [worker.phase for worker in workers] == [GONE]
        assert not world.turn()


def test_a_worker_tells_its_state() -> None:
    world, (worker,) = ready_world(1)
    assert repr(worker) == "<WorkerState 1 ready hand=0 leases=0>"
    world.retire(worker)
    assert worker.phase == RETIRING
    assert repr(worker) == "<WorkerState 1 retiring hand=0 leases=0>"
