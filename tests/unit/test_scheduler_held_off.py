"""The scheduler where no more workers can be started, case by case: situation, event, decision."""

from __future__ import annotations

from worlds import make_world, ready_world

from offloop.scheduling.state import GONE, READY


class TestHeldOff:
    """Starting workers has failed: those that there are go on."""

    def test_none_is_started_beside_those_that_there_are(self) -> None:
        world, (worker, other) = ready_world(2)
        world.notice_death(world.workers[other.number])
        world.scheduler.held_off = True
        items = [world.enqueue() for _ in range(4)]
        assert not world.turn().start
        assert not world.scheduler.would_start_at_once
        world.drain()
        assert [item.worker for item in items] == [worker] * 4

    def test_nor_is_one_for_the_minimum_or_in_the_place_of_another_which_works_on(self) -> None:
        world, (worker, other, _) = ready_world(3, min_workers=3)
        world.notice_death(world.workers[other.number])
        world.scheduler.held_off = True
        world.replace(worker)
        plan = world.turn()
        assert not plan.start
        assert not plan.stop
        assert worker.phase == READY
        world.scheduler.held_off = False
        assert world.turn().start

    def test_where_there_are_none_that_is_tried(self) -> None:
        world, (worker,) = ready_world(1)
        world.scheduler.held_off = True
        world.notice_death(world.workers[worker.number])
        world.enqueue()
        assert len(world.turn().start) == 1

    def test_one_that_is_being_started_is_waited_for(self) -> None:
        world = make_world(2)
        world.enqueue()
        world.turn()
        world.scheduler.held_off = True
        world.enqueue()
        assert not world.turn().start
        assert world.scheduler.helpers() == (0, 1)
        world.drain()
        assert world.scheduler.helpers() == (1, 0)

    def test_a_leased_one_helps_where_there_is_no_other(self) -> None:
        world, (worker, other) = ready_world(2)
        world.notice_death(world.workers[other.number])
        assert world.lease() is worker
        world.scheduler.held_off = True
        items = [world.enqueue() for _ in range(2)]
        world.drain()
        assert [item.worker for item in items] == [worker, worker]

    def test_without_workers_a_task_would_start_at_once(self) -> None:
        world = make_world(1)
        world.scheduler.held_off = True
        assert world.scheduler.would_start_at_once

    def test_a_lease_is_of_one_that_there_is(self) -> None:
        world, (worker, other) = ready_world(2)
        world.notice_death(world.workers[other.number])
        world.enqueue()
        world.turn()
        world.scheduler.held_off = True
        assert world.lease() is worker, "though it has something to do"
        world.replace(worker)
        assert world.lease() is worker

    def test_a_lease_is_rather_of_one_that_is_busy_than_of_one_that_is_not_there(self) -> None:
        world, (worker, other) = ready_world(2)
        world.notice_death(world.workers[other.number])
        assert world.lease() is worker
        reserved = world.lease()
        for _ in range(3):
            world.enqueue(pin=worker.number)
        world.turn()
        assert world.lease() is reserved
        world.scheduler.held_off = True
        assert world.lease() is worker

    def test_one_of_an_unused_lease_would_not_start(self) -> None:
        world, (_, other) = ready_world(2)
        world.notice_death(world.workers[other.number])
        world.enqueue()
        world.turn()
        world.lease()
        assert world.scheduler.would_start_at_once
        world.scheduler.held_off = True
        assert not world.scheduler.would_start_at_once

    def test_a_worker_does_not_go_for_a_lease_before_its_worker_has_started(self) -> None:
        world, (worker,) = ready_world(1)
        world.replace(worker)
        (replacement,) = world.turn().start
        world.notice_death(world.workers[replacement.number])
        leased = world.lease()
        plan = world.turn()
        assert plan.start == [leased], "which shows whether one can"
        assert not plan.stop
        world.notice_death(world.workers[leased.number])
        assert worker.phase == READY
        item = world.enqueue()
        world.drain()
        assert item.worker is worker
        assert worker.phase == GONE

    def test_a_worker_works_on_until_another_one_has_started_in_its_place(self) -> None:
        world, (worker,) = ready_world(1, min_workers=1)
        world.replace(worker)
        for _ in range(2):
            (replacement,) = world.turn().start
            assert worker.phase == READY
            world.notice_death(world.workers[replacement.number])
            assert not world.scheduler.helpers()[1]
        item = world.enqueue()
        world.drain()
        assert item.worker is worker
        assert worker.phase == GONE
        assert world.scheduler.helpers() == (1, 0)

    def test_a_new_key_takes_a_worker_that_there_is(self) -> None:
        world, (worker, other) = ready_world(2)
        world.notice_death(world.workers[other.number])
        world.scheduler.start_failed, world.scheduler.held_off = False, True
        items = [world.enqueue(key=key) for key in "ab"]
        world.drain()
        assert [item.worker for item in items] == [worker, worker]
