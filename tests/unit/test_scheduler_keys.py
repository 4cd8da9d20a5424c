"""Keys and the lives of their workers, case by case: situation, event, decision."""

from __future__ import annotations

from fakeworld import Item
from worlds import finish, known, make_world, ready_world

from offloop.scheduling.pace import MAX_PLAN
from offloop.scheduling.state import GONE, STARTING


def workers_of(items: list[Item]) -> list[int]:
    """The numbers of the workers that got these."""
    return [item.worker.number for item in items if item.worker is not None]


class TestHomesOfNewKeys:
    """Keys of one worker wait for each other, so they spread."""

    def test_keys_that_come_one_at_a_time_spread_over_idle_workers(self) -> None:
        world, _ = ready_world(2)
        items = []
        for key in "abcd":
            items.append(world.enqueue(known(), key=key))
            world.drain()
        assert sorted(workers_of(items)) == [1, 1, 2, 2]

    def test_a_new_key_starts_a_worker_while_there_may_be_one(self) -> None:
        world = make_world(2)
        items = []
        for key in "abc":
            items.append(world.enqueue(known(), key=key))
            world.drain()
        assert workers_of(items[:2]) == [1, 2]
        assert set(world.scheduler.workers) == {1, 2}

    def test_a_new_key_waits_for_a_worker_that_is_being_started_rather_than_share_one(self) -> None:
        world = make_world(3)
        items = [world.enqueue(known(), key=key) for key in "abcd"]
        first, *others = (world.workers[each.number] for each in world.turn().start)
        first.set_up()
        world.hear(first)
        world.turn()
        while first.state.hand:  # it would have time for all of them
            finish(world, first.state)
            world.turn()
        for each in others:
            each.set_up()
            world.hear(each)
        world.drain()
        assert sorted(workers_of(items[:3])) == [1, 2, 3]
        assert [item.outcome for item in items] == ["done"] * 4

    def test_a_worker_that_can_not_start_costs_a_new_key_one_try(self) -> None:
        world = make_world(2)
        world.enqueue(key="a")
        world.drain()
        item = world.enqueue(key="b")
        (fresh,) = world.turn().start
        world.notice_death(world.workers[fresh.number])
        assert not world.turn().start
        assert workers_of([item]) == [1]

    def test_a_worker_that_nobody_waits_for_any_more_is_not_started(self) -> None:
        world = make_world(2)
        world.enqueue(key="a")
        world.drain()
        world.cancel(world.enqueue(key="b"))
        assert not world.turn().start
        assert set(world.scheduler.workers) == {1}

    def test_a_new_key_does_not_wait_behind_another_task_however_short_those_were(self) -> None:
        world, (one, two) = ready_world(2)
        kind = known()
        items = [world.enqueue(kind, key=key) for key in "abcdef"]
        world.turn()
        assert (len(one.hand), len(two.hand)) == (1, 1)
        slow = world.workers[items[0].worker.number] if items[0].worker else None
        assert slow is not None
        slow.begin(world.now)  # and goes on and on
        quick = two if slow.state is one else one
        for _ in items[1:]:
            finish(world, quick)
            world.turn()
        assert [item.outcome for item in items] == ["", *["done"] * 5]

    def test_keys_of_a_single_worker_are_sent_in_advance(self) -> None:
        world, (worker,) = ready_world(1)
        kind = known()
        for key in "abc":
            world.enqueue(kind, key=key)
        world.turn()
        assert len(worker.hand) == 3


class TestKeysOfOneThatRetires:
    def test_a_steady_key_does_not_keep_it_alive(self) -> None:
        world, (worker,) = ready_world(1)
        kind = known()
        world.enqueue(kind, key="a")
        world.drain()
        world.retire(worker)
        items: list[Item] = []
        for _ in range(20):
            items.append(world.enqueue(kind, key="a"))
            for _ in range(3):
                world.step(0.0)
        assert worker.phase == GONE, "while tasks of its key kept coming"
        world.drain()
        assert {item.outcome for item in items} == {"done"}
        assert set(workers_of(items)) == {2}

    def test_new_tasks_wait_while_one_of_their_key_is_in_its_hand(self) -> None:
        world, (worker,) = ready_world(1)
        first = world.enqueue(key="a")
        world.turn()
        fake = world.workers[worker.number]
        fake.begin(world.now)
        world.retire(worker)
        world.turn()
        heir = world.workers[2]
        heir.set_up()
        world.hear(heir)
        later = [world.enqueue(known(), key="a") for _ in range(3)]
        other = world.enqueue(known(), key="b")
        world.turn()
        assert [item.worker for item in later] == [None] * 3
        assert other.worker is heir.state, "another key is not held up"
        fake.finish(first.id, world.now)
        world.hear(fake)
        world.turn()
        assert list(heir.state.hand) == [other.id, *(item.id for item in later)]
        world.drain()
        assert worker.phase == GONE

    def test_what_waited_there_goes_to_its_replacement_in_order(self) -> None:
        world, _ = ready_world(2)
        items = [world.enqueue(key="a") for _ in range(4)]
        world.turn()
        owner = items[0].worker
        assert owner is not None
        assert list(owner.keyed) == items[1:]
        world.retire(owner)
        (heir,) = world.turn().start
        finish(world, owner)
        world.turn()
        assert list(heir.keyed) == items[1:], "though it is still starting"
        world.drain()
        assert {item.outcome for item in items} == {"done"}
        assert workers_of(items) == [owner.number, *[heir.number] * 3]

    def test_its_most_tasks_count_those_of_its_keys(self) -> None:
        world = make_world(1, max_tasks_per_worker=2)
        items = [world.enqueue(known(), key="a") for _ in range(7)]
        world.drain()
        assert workers_of(items) == [1, 1, 2, 2, 3, 3, 4]

    def test_where_the_replacement_does_not_start_they_go_elsewhere(self) -> None:
        world, workers = ready_world(2)
        items = [world.enqueue(key="a") for _ in range(3)]
        world.turn()
        owner = items[0].worker
        assert owner is not None
        world.retire(owner)
        (heir,) = world.turn().start
        finish(world, owner)
        world.turn()
        assert list(heir.keyed) == items[1:]
        assert heir.phase == STARTING
        world.workers[heir.number].is_alive = False
        world.drain()
        assert [item.outcome for item in items] == ["done"] * 3
        (other,) = set(workers) - {owner}
        assert workers_of(items) == [owner.number, other.number, other.number]

    def test_where_there_is_no_replacement_they_go_to_whoever_is_free(self) -> None:
        world, (worker, other) = ready_world(2)
        items = [world.enqueue(key="a") for _ in range(3)]
        world.turn()
        owner = items[0].worker
        assert owner is not None
        world.retire(owner)
        world.close()
        finish(world, owner)
        world.drain()
        assert [item.outcome for item in items] == ["done"] * 3
        assert owner.phase == GONE
        assert set(workers_of(items[1:])) == {(worker if owner is other else other).number}

    def test_its_replacement_may_have_keys_of_its_own(self) -> None:
        world, workers = ready_world(2)
        mine = [world.enqueue(key="a") for _ in range(5)]
        world.turn()
        owner = mine[0].worker
        assert owner is not None
        (other,) = set(workers) - {owner}
        busy = world.enqueue()
        world.retire(owner)
        (heir,) = world.turn().start
        world.workers[heir.number].set_up()
        world.hear(world.workers[heir.number])
        theirs = [world.enqueue(key="b") for _ in range(3)]
        world.turn()
        assert list(heir.hand.values()) == theirs[:1]
        finish(world, other)
        world.turn()
        assert list(heir.keyed) == theirs[1:], "the other worker had nothing to do, and moved them"
        finish(world, owner)
        world.turn()
        assert sorted(item.id for item in heir.keyed) == [item.id for item in mine[1:] + theirs[1:]]
        world.drain()
        assert {item.outcome for item in [*mine, *theirs, busy]} == {"done"}

    def test_a_lease_on_it_is_served_while_its_keys_wait(self) -> None:
        world, (worker,) = ready_world(1, slots=2)
        world.enqueue(key="a")
        world.turn()
        assert world.lease() is worker
        world.retire(worker)
        waiting = world.enqueue(key="a")
        leased = world.enqueue(pin=worker.number)
        world.turn()
        assert leased.worker is worker
        assert waiting.worker is None
        world.release(worker)
        world.drain()
        assert (waiting.outcome, leased.outcome) == ("done", "done")

    def test_what_a_lease_and_a_key_wait_for_is_served_in_order(self) -> None:
        world, _ = ready_world(2)
        kind = known(0.1)
        first = world.enqueue(kind, key="a")
        world.turn()
        owner = first.worker
        assert owner is not None
        assert world.lease() is not owner
        assert world.lease() is owner
        pin = {"pin": owner.number}
        items: list[Item] = []
        for options in ({"key": "a"}, pin, {"key": "a"}):
            items.append(world.enqueue(kind, **options))
            world.turn()
        assert list(owner.keyed) == [items[0], items[2]]
        urgent = world.enqueue(kind, **pin, priority=1)
        order: list[Item] = []
        for _ in range(5):
            order += owner.hand.values()
            finish(world, owner, 0.1)
            world.turn()
        assert order == [first, urgent, *items]

    def test_one_plan_moves_a_bounded_number_to_a_busy_key(self) -> None:
        world, _ = ready_world(2)
        first = world.enqueue(key="a")
        world.turn()
        owner = first.worker
        assert owner is not None
        for _ in range(MAX_PLAN + 10):
            world.enqueue(key="a")
        behind = world.enqueue()
        world.turn()
        assert len(owner.keyed) == MAX_PLAN
        assert world.is_turn_due, "the rest is for the next turn of the event loop"
        world.turn()
        assert len(owner.keyed) == MAX_PLAN + 10
        assert behind.worker is not None
