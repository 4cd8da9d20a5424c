"""The sizes of chunks, under a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from chunks import past_of, simulate, sizes
from hypothesis import given, strategies as st

from offloop.scheduling.chunking import (
    GROWTH,
    LEAP,
    MOST_AHEAD,
    MOST_BYTES,
    MOST_ITEMS,
    MOST_OBJECTS,
    TARGET,
    TURN,
    WORTH_SPLITTING,
    Chunker,
)


def test_it_begins_with_single_items() -> None:
    chunker = Chunker(4, length=10**6)
    for _ in range(100):
        assert chunker.next_size() == 1
        chunker.sent(1)


def test_tiny_items_soon_travel_by_the_thousand() -> None:
    chunks, _ = simulate(Chunker(2, length=200_000), [1e-7] * 200_000, 2)
    assert max(sizes(chunks)) == MOST_ITEMS
    assert len(chunks) < 200


@pytest.mark.parametrize("seconds", [1e-7, 1e-6, 1e-5, 1e-4])
def test_sizes_grow_step_by_step_and_faster_where_little_is_at_stake(seconds: float) -> None:
    chunks, _ = simulate(Chunker(1), [seconds] * 50_000, 1)
    for before, after in pairwise(sizes(chunks)):
        is_little = after * seconds <= WORTH_SPLITTING * 1.001
        assert after <= before * (LEAP if is_little else GROWTH)
    assert sizes(chunks)[1] == max(GROWTH, min(LEAP, round(WORTH_SPLITTING / seconds)))


def test_a_first_item_alone_says_little() -> None:
    chunker = Chunker(1)
    for size, seconds in ((1, 1e-5), (10, 1e-5)):
        chunker.sent(size)
        chunker.record(size, seconds)
    chunker.sent(chunker.next_size())
    assert chunker.next_size() > 4 * 10, "a slow start of the first item is soon outweighed"


def test_each_worker_gets_one_chunk_until_something_is_known() -> None:
    chunker = Chunker(2, length=100)
    assert chunker.outstanding(8) == 2
    assert chunker.outstanding(1) == 1
    chunker.sent(1)
    chunker.record(1, 1e-6)
    assert chunker.outstanding(8) == 8


def test_what_is_known_or_short_is_not_waited_for() -> None:
    assert Chunker(2, chunksize=10).outstanding(8) == 8
    assert Chunker(2, length=8).outstanding(8) == 8
    assert Chunker(2, length=9).outstanding(8) == 2
    assert Chunker(2).outstanding(8) == 2


def test_small_items_fill_a_chunk_of_the_target_duration() -> None:
    chunks, _ = simulate(Chunker(2), [50e-6] * 5000, 2)
    assert all(sum(chunk) <= TARGET * 1.01 for chunk in chunks)
    assert sum(chunks[len(chunks) // 2]) > TARGET / 2


@pytest.mark.parametrize("seconds", [TARGET / 2, 0.02, 3.0])
def test_slow_items_go_alone(seconds: float) -> None:
    chunks, _ = simulate(Chunker(2, length=100), [seconds] * 100, 2)
    assert set(sizes(chunks)) == {1}


def test_growing_durations_shrink_chunks() -> None:
    seconds = [1e-6 * 1.0005**i for i in range(19_800)]  # up to 20 ms
    chunks, _ = simulate(Chunker(1), seconds, 1)
    assert max(sizes(chunks)) > 50
    assert all(sum(chunk) < 4 * TARGET or len(chunk) == 1 for chunk in chunks)
    assert sizes(chunks)[-100:] == [1] * 100


def test_a_heavy_tail_makes_chunks_shrink_to_one_at_once() -> None:
    chunker = Chunker(2)
    for _ in range(20):
        size = chunker.next_size()
        chunker.sent(size)
        chunker.record(size, size * 0.0002)
    assert chunker.next_size() > 4
    chunker.record(8, 0.1)
    assert chunker.next_size() == 1


def test_few_items_of_a_heavy_tail_share_a_chunk_with_a_slow_one() -> None:
    rng = random.Random(1)
    seconds = rng.choices([0.0002, 0.002, 0.1], [90, 9, 1], k=3000)
    chunks, _ = simulate(Chunker(4, length=3000), seconds, 4)
    company = sum(len(chunk) - 1 for chunk in chunks if max(chunk) == 0.1)
    assert company < 60  # of 3,000


def test_a_rare_hiccup_costs_little() -> None:
    seconds = [1e-7] * 300_000
    for place in range(20_000, 300_000, 60_000):
        seconds[place] = 0.03
    chunks, ended = simulate(Chunker(2), seconds, 2)
    assert max(sizes(chunks)[-100:]) == MOST_ITEMS
    assert ended < 1.5 * sum(seconds)


def test_growth_resumes_after_a_slow_start() -> None:
    chunks, _ = simulate(Chunker(1), [0.5] + [1e-6] * 20_000, 1)
    assert max(sizes(chunks)) > 1000


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
@pytest.mark.parametrize("seconds", [1e-7, 1e-5, 2e-4])
def test_workers_finish_together(workers: int, seconds: float) -> None:
    count = 20_000
    chunks, ended = simulate(Chunker(workers, length=count), [seconds] * count, workers, overhead=0.0)
    ideal = seconds * count / workers
    assert ended <= ideal * 1.05 + 2 * 100e-6
    assert sum(sizes(chunks)) == count


def test_a_chunk_holds_at_most_a_fair_share_of_what_is_left() -> None:
    chunks, _ = simulate(Chunker(4, length=400), [1e-4] * 400, 4)
    left = 400
    for chunk in chunks:
        assert len(chunk) <= max(1, -(-left // 8))
        left -= len(chunk)


def test_costly_pulling_keeps_chunks_small() -> None:
    chunker = Chunker(2)
    for _ in range(100):
        size = chunker.next_size()
        chunker.sent(size, size * 100e-6)
        chunker.record(size, size * 1e-7)
    assert chunker.next_size() <= 10


@pytest.mark.parametrize("what", ["pickling", "loading"])
def test_rows_that_are_dear_to_pickle_or_whose_results_are_to_load_keep_chunks_small(what: str) -> None:
    chunker = Chunker(2)
    for _ in range(100):
        size = chunker.next_size()
        chunker.sent(size)
        chunker.record(size, size * 1e-7, **{what: size * 40e-6})
    assert chunker.next_size() == pytest.approx(TURN / 40e-6, abs=1)
    for _ in range(50):
        size = chunker.next_size()
        chunker.sent(size)
        chunker.record(size, size * 1e-7)
    assert chunker.next_size() > 1000, "they may become cheap again"


def test_objects_travel_in_smaller_chunks() -> None:
    chunker = Chunker(2, length=200_000)
    chunker.weigh(is_light=False)
    chunks, _ = simulate(chunker, [1e-7] * 200_000, 2)
    assert max(sizes(chunks)) == MOST_OBJECTS
    assert Chunker(2, chunksize=5000, window=10_000).next_size() == 5000


def test_what_grew_before_it_was_weighed_shrinks() -> None:
    chunker = Chunker(2, length=10**6)
    simulate(chunker, [1e-7] * 100_000, 2)
    assert chunker.next_size() == MOST_ITEMS
    chunker.weigh(is_light=False)
    assert chunker.next_size() == MOST_OBJECTS


def test_large_results_travel_in_small_chunks_for_as_long_as_they_are_large() -> None:
    chunker = Chunker(2, length=10**6)
    simulate(chunker, [1e-7] * 100_000, 2)
    chunker.weigh(is_light=False, result=MOST_BYTES // 4)
    assert chunker.next_size() == 4
    chunker.weigh(is_light=False, result=10 * MOST_BYTES)
    assert chunker.next_size() == 1
    for _ in range(60):
        chunker.weigh(is_light=True)
    assert chunker.next_size() == MOST_OBJECTS


def test_a_fixed_size_stays_within_the_window() -> None:
    assert Chunker(2, chunksize=5000, window=10_000).next_size() == 5000
    assert Chunker(2, chunksize=5000, window=100).next_size() == 100


@pytest.mark.parametrize(("seconds", "size"), [(1e-6, MOST_ITEMS), (1e-3, 200), (0.05, 4), (1.0, 1)])
def test_what_a_function_carries_is_worth_sending_for_many_items(seconds: float, size: int) -> None:
    chunker = Chunker(2)
    for _ in range(50):
        sent = chunker.next_size()
        chunker.sent(sent)
        chunker.record(sent, sent * seconds, carried=0.05)
    assert chunker.next_size() == size


def test_while_sending_what_is_carried_takes_longer_than_the_work_each_worker_gets_one_chunk() -> None:
    chunker = Chunker(2)
    for seconds, outstanding in ((1e-3, 2), (0.1, 8)):
        chunker.sent(1)
        chunker.record(1, seconds, carried=0.05)
        assert chunker.outstanding(8) == outstanding


@pytest.mark.parametrize("where", ["pulling", "pickling", "loading"])
def test_what_one_item_cost_the_event_loop_is_forgotten_when_many_cost_less(where: str) -> None:
    chunker = Chunker(2)
    for size, seconds in ((1, 1e-4), (200, 2e-5)):
        chunker.sent(size, seconds if where == "pulling" else 0.0)
        pickling, loading = (seconds * (where == name) for name in ("pickling", "loading"))
        chunker.record(size, size * 1e-7, pickling, loading)
    assert chunker.next_size() == 1000


def test_what_the_first_chunk_took_longer_to_send_is_not_carried_by_all() -> None:
    chunker = Chunker(2)
    for carried in (0.05, 0.001, 0.05):
        chunker.sent(1)
        chunker.record(1, 0.01, carried=carried)
    assert chunker.next_size() == 1


def test_chunks_that_tell_nothing_of_what_is_carried_leave_it_as_it_was() -> None:
    chunker = Chunker(2)
    for carried in (0.05, None, *[0.05] * 20, None):
        size = chunker.next_size()
        chunker.sent(size)
        chunker.record(size, size * 1e-3, 0.05 if carried is None else 0.0, carried=carried)
    assert chunker.next_size() == 200


def test_the_tail_is_not_split_into_chunks_that_carry_more_than_they_do() -> None:
    chunker = Chunker(2, length=300)
    chunks, _ = simulate(chunker, [1e-4] * 300, 2, carried=0.01)
    assert len(chunks) <= 12


@pytest.mark.parametrize(("seconds", "size"), [(1e-6, 8), (WORTH_SPLITTING / 6, 6), (1e-3, 2), (1.0, 1)])
def test_half_a_small_window_goes_in_one_chunk_where_splitting_it_gains_nothing(
    seconds: float, size: int
) -> None:
    chunker = Chunker(4, length=10_000, window=16)
    for _ in range(50):
        sent = chunker.next_size()
        chunker.sent(sent)
        chunker.record(sent, sent * seconds)
    assert chunker.next_size() == size


def durations() -> Iterator[st.SearchStrategy[float]]:
    yield st.floats(0, 10)
    yield st.sampled_from([0.0, 1e-9, 1e-6, 1e-3, 0.1])


@given(
    events=st.lists(st.tuples(st.one_of(*durations()), st.floats(0, 0.01)), max_size=60),
    length=st.none() | st.integers(0, 5000),
    workers=st.integers(1, 100),
    window=st.integers(1, 5000),
    may_bet=st.booleans(),
    before=st.none() | st.floats(1e-9, 1.0),
)
def test_a_size_is_always_within_its_bounds(
    events: list[tuple[float, float]],
    length: int | None,
    workers: int,
    window: int,
    may_bet: bool,
    before: float | None,
) -> None:
    known = None if before is None else past_of(before)
    chunker = Chunker(workers, length=length, window=window, may_bet=may_bet, past=known)
    for per_item, cost in events:
        size = chunker.next_size()
        assert 1 <= size <= max(1, min(window // 2, MOST_ITEMS))
        chunker.sent(size, cost)
        chunker.record(size, size * per_item)
        if per_item >= TARGET / 2:
            assert chunker.next_size() == 1


def test_short_chunks_of_a_given_size_are_outstanding_by_the_dozen_and_long_ones_are_not() -> None:
    chunker = Chunker(2, length=10_000, chunksize=4)
    assert chunker.outstanding(8) == 8
    chunker.record(4, 4e-6)
    assert chunker.outstanding(8) == 2 * MOST_AHEAD
    chunker.record(4, 1.0)
    assert chunker.outstanding(8) == 8


def test_the_end_of_an_input_is_looked_for_where_items_are_to_be_shared_out() -> None:
    chunker = Chunker(3)
    assert chunker.ahead() == 0  # items go one by one
    chunker.record(1, 1e-6)
    assert chunker.next_size() == LEAP
    assert chunker.ahead() == 2 * 3 * LEAP
    chunker.ends_after(12)
    assert chunker.ahead() == 0
    assert chunker.next_size() <= max(12 // 3, WORTH_SPLITTING / 1e-6)
    assert Chunker(3, length=10).ahead() == Chunker(3, chunksize=10).ahead() == 0


def test_long_items_at_the_end_of_an_input_of_unknown_length_are_shared_out() -> None:
    seconds = [1e-5] * 3_000 + [50e-3] * 16

    def last_chunks(*, is_seen: bool) -> list[int]:
        chunker, left, made = Chunker(8), len(seconds), list[int]()
        while left:
            if is_seen and 0 < left <= chunker.ahead():
                chunker.ends_after(left)
            size = min(chunker.next_size(), left)
            chunk = seconds[len(seconds) - left :][:size]
            left -= size
            chunker.sent(size)
            chunker.record(size, sum(chunk))
            made.append(sum(item > 1e-3 for item in chunk))
        return made

    assert max(last_chunks(is_seen=True)) < max(last_chunks(is_seen=False))
