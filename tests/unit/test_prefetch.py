"""How much a worker may hold in advance, and what is taken back from it."""

from __future__ import annotations

import pytest
from fakeworld import Item
from hypothesis import assume, given, strategies as st

from offloop.scheduling.estimate import Kind
from offloop.scheduling.prefetch import (
    BEARABLE,
    LONG,
    MAX_HAND,
    OVERHEAD,
    PATIENCE,
    STALLED,
    TARGET,
    choose_less_urgent,
    choose_recalls,
    fitting,
    has_room,
)
from offloop.scheduling.state import READY, WorkerState


def make_worker(tasks: int = 0, seconds: float = 0.0, *, progress: float = 0.0) -> WorkerState[Item]:
    """A worker that holds so many tasks of so many seconds each."""
    worker: WorkerState[Item] = WorkerState(1)
    worker.phase = READY
    worker.progress = progress
    for id in range(1, tasks + 1):
        worker.hand[id] = Item(id, Kind(), cost=seconds)
        worker.hand[id].kind.record(seconds)
        worker.load += seconds
    return worker


class TestRoom:
    @pytest.mark.parametrize("slots", [1, 4])
    def test_what_could_run_at_once_always_has_room(self, slots: int) -> None:
        worker = make_worker(slots - 1, 1e9)
        assert has_room(worker, slots, now=1e9)

    def test_short_tasks_are_sent_up_to_the_target(self) -> None:
        assert has_room(make_worker(9, TARGET / 10), 1, 0.0)
        assert not has_room(make_worker(10, TARGET / 10 * 1.001), 1, 0.0)

    def test_one_task_waits_behind_a_middling_one_and_none_behind_a_long_one(self) -> None:
        assert has_room(make_worker(1, LONG * 0.9), 1, 0.0)
        assert not has_room(make_worker(2, LONG * 0.4), 1, 0.0)
        assert not has_room(make_worker(1, LONG), 1, 0.0)

    def test_a_hand_is_bounded_however_short_its_tasks(self) -> None:
        assert has_room(make_worker(MAX_HAND - 1), 1, 0.0)
        assert not has_room(make_worker(MAX_HAND), 1, 0.0)

    def test_a_worker_that_does_not_get_on_is_given_no_more(self) -> None:
        worker = make_worker(1, 1e-6, progress=100.0)
        assert has_room(worker, 1, 100.0 + STALLED * 0.9)
        assert not has_room(worker, 1, 100.0 + STALLED * 1.1)

    def test_a_worker_has_the_time_that_its_task_is_expected_to_take(self) -> None:
        worker = make_worker(1, 4 * STALLED, progress=100.0)
        assert has_room(worker, 1, 100.0 + STALLED * 4.9)
        assert not has_room(worker, 1, 100.0 + STALLED * 5.1)

    def test_what_travels_for_long_is_sent_in_advance_and_missed_later(self) -> None:
        latency = 0.1
        assert has_room(make_worker(10, (TARGET + latency) / 10 * 0.999), 1, 0.0, latency)
        assert not has_room(make_worker(10, (TARGET + latency) / 10 * 1.001), 1, 0.0, latency)
        worker = make_worker(1, 1e-6, progress=100.0)
        assert has_room(worker, 1, 100.0 + (STALLED + latency) * 0.99, latency)
        assert not has_room(worker, 1, 100.0 + (STALLED + latency) * 1.01, latency)

    @given(
        held=st.integers(0, MAX_HAND - 1),
        seconds=st.floats(0, 2 * LONG),
        slots=st.integers(1, 8),
        cost=st.floats(OVERHEAD, 2 * LONG),
        latency=st.sampled_from([0.0, 0.01]),
    )
    def test_as_many_fit_at_once_as_one_after_the_other(
        self, held: int, seconds: float, slots: int, cost: float, latency: float
    ) -> None:
        worker = make_worker(held, seconds)
        assume(has_room(worker, slots, 0.0, latency))
        count = fitting(worker, slots, cost, latency)
        for number in range(count):
            # The last one may be over the target by what adding up has rounded.
            is_last_by_rounding = number == count - 1 and worker.load == pytest.approx(TARGET + latency)
            assert has_room(worker, slots, 0.0, latency) or is_last_by_rounding
            worker.hand[1000 + number] = Item(1000 + number, Kind(), cost=cost)
            worker.load += cost
        assert count >= 1
        assert len(worker.hand) <= MAX_HAND
        assert len(worker.hand) in (slots, MAX_HAND) or worker.load >= (TARGET + latency) * 0.999


class TestRecalls:
    def test_nothing_within_its_patience(self) -> None:
        assert choose_recalls([make_worker(5)], 1, helpers=1, now=PATIENCE * 0.9) == []

    def test_nothing_while_nobody_could_help_and_it_may_still_get_on(self) -> None:
        assert choose_recalls([make_worker(5)], 1, helpers=0, now=STALLED * 0.9) == []

    def test_the_second_half_for_an_idle_helper(self) -> None:
        worker = make_worker(6)
        ((found, items),) = choose_recalls([worker], 1, helpers=1, now=PATIENCE * 1.1)
        assert found is worker
        assert [item.id for item in items] == [4, 5, 6]
        assert worker.recalled == {4, 5, 6}

    def test_all_but_what_runs_once_it_is_stuck(self) -> None:
        ((_, items),) = choose_recalls([make_worker(6)], 2, helpers=0, now=STALLED * 1.1)
        assert [item.id for item in items] == [3, 4, 5, 6]

    def test_nothing_from_one_whose_task_is_expected_to_take_long_unless_somebody_could_help(self) -> None:
        assert choose_recalls([make_worker(2, 4 * STALLED)], 1, helpers=0, now=STALLED * 4.9) == []
        assert choose_recalls([make_worker(2, 4 * STALLED)], 1, helpers=1, now=STALLED)
        assert choose_recalls([make_worker(2, 4 * STALLED)], 1, helpers=0, now=STALLED * 5.1)

    def test_what_was_recalled_is_not_recalled_again(self) -> None:
        worker = make_worker(6)
        choose_recalls([worker], 1, helpers=1, now=PATIENCE * 1.1)
        ((_, items),) = choose_recalls([worker], 1, helpers=1, now=STALLED * 1.1)
        assert [item.id for item in items] == [2, 3]
        assert choose_recalls([worker], 1, helpers=1, now=1.0) == []

    def test_what_must_run_there_stays(self) -> None:
        worker = make_worker(4)
        worker.hand[2].pin = 1
        worker.hand[3].key = "a"
        ((_, items),) = choose_recalls([worker], 1, helpers=1, now=1.0)
        assert [item.id for item in items] == [4]

    def test_each_worker_is_looked_at_for_itself(self) -> None:
        getting_on, silent = make_worker(5, progress=1.0), make_worker(5)
        ((found, _),) = choose_recalls([getting_on, silent], 1, helpers=1, now=1.0)
        assert found is silent

    def test_what_travels_for_long_is_recalled_later(self) -> None:
        latency = 0.1
        assert choose_recalls([make_worker(6)], 1, 1, PATIENCE * 0.9 + latency, latency) == []
        ((_, half),) = choose_recalls([make_worker(6)], 1, 1, PATIENCE * 1.1 + latency, latency)
        assert [item.id for item in half] == [4, 5, 6]
        ((_, rest),) = choose_recalls([make_worker(6)], 1, 1, STALLED * 1.1 + latency, latency)
        assert [item.id for item in rest] == [2, 3, 4, 5, 6]


class TestUrgent:
    def test_who_is_asked_to_give_back_gets_no_more_until_then(self) -> None:
        worker = make_worker(2, 10e-6)
        assert has_room(worker, 1, 0.0)
        worker.recalled.add(2)
        assert not has_room(worker, 1, 0.0)

    def test_what_is_less_urgent_makes_room_in_as_many_hands_as_needed(self) -> None:
        workers = [make_worker(3, 5e-3) for _ in range(3)]
        recalls = choose_less_urgent(workers, 1, 0.0, 0.0, priority=1, waiting=2)
        assert [(worker, [item.id for item in items]) for worker, items in recalls] == [
            (workers[0], [2, 3]),
            (workers[1], [2, 3]),
        ]
        assert workers[0].recalled == {2, 3}
        assert (
            choose_less_urgent(workers[:2], 1, 0.0, 0.0, priority=1, waiting=2) == []
        )  # they were asked for

    def test_what_is_as_urgent_or_must_run_there_stays(self) -> None:
        worker = make_worker(4, 5e-3)
        running, equal, pinned, keyed = worker.hand.values()
        running.priority, equal.priority, pinned.pin, keyed.key = 0, 2, 1, "k"
        assert choose_less_urgent([worker], 1, 0.0, 0.0, priority=2, waiting=9) == []
        assert choose_less_urgent([worker], 1, 0.0, 0.0, priority=3, waiting=9) == [(worker, [equal])]

    def test_what_is_soon_done_is_left_alone(self) -> None:
        assert choose_less_urgent([make_worker(20, 10e-6)], 1, BEARABLE, 0.0, priority=1, waiting=1) == []

    def test_what_turned_out_to_take_longer_is_not_soon_done(self) -> None:
        worker = make_worker(3, 10e-6)
        assert choose_less_urgent([worker], 1, BEARABLE, 0.0, priority=1, waiting=1) == []
        silent, long = make_worker(3, 10e-6), 2 * BEARABLE
        assert choose_less_urgent([silent], 1, long, long, priority=1, waiting=1) == []  # it is far away
        assert choose_less_urgent([silent], 1, long, 0.0, priority=1, waiting=1)
        for item in [*worker.hand.values()] * 4:
            item.kind.record(5e-3)
        assert choose_less_urgent([worker], 1, 0.0, 0.0, priority=1, waiting=1)
