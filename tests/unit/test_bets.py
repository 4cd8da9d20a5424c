"""What a map bets on, under a simulated clock."""

from __future__ import annotations

import pytest
from chunks import light, past_of, simulate, sizes

from offloop.scheduling.chunking import (
    FEW_ITEMS,
    GROWTH,
    LONG_CHUNK,
    MOST_BET,
    MOST_ITEMS,
    SHORT_ITEM,
    TARGET,
    TURN,
    Chunker,
    Past,
)


def test_each_worker_gets_its_share_of_fast_items_once_one_is_known() -> None:
    chunks, _ = simulate(light(402), [1e-7] * 402, 2)
    assert sizes(chunks) == [1, 1, 201, 199]
    chunks, _ = simulate(light(10_000), [1e-7] * 10_000, 2)
    assert sizes(chunks)[:4] == [1, 1, MOST_BET, MOST_BET]
    assert sizes(chunks)[4] == GROWTH * MOST_BET


def test_a_second_map_bets_at_once_on_what_the_first_learned() -> None:
    chunks, _ = simulate(light(400, past_of(1e-7)), [1e-7] * 400, 2)
    assert sizes(chunks) == [200, 200]
    past = past_of(1e-7)
    second = light(100_000, past)
    assert second.next_size() == past.proven > MOST_BET
    assert second.outstanding(8) == 8
    assert light(100_000, past_of(1.9e-5)).next_size() == min(MOST_BET, int(TARGET / 1.9e-5))


def test_a_second_map_bets_as_many_items_as_have_proven_well_but_not_more_than_a_share() -> None:
    past = Past()
    simulate(light(200_000, past), [1e-7] * 200_000, 2)
    chunks, _ = simulate(light(200_000, past), [1e-7] * 200_000, 2)
    assert sizes(chunks)[:9] == [MOST_ITEMS] * 9
    assert light(10_000, past).next_size() == 2_500
    second = light(10_000, past)
    second.lost()  # its worker died
    assert second.next_size() == MOST_BET
    second.record(2_500, 2_500 * 1e-7)  # one that was under way in another worker
    assert light(10_000, past).next_size() == MOST_BET
    simulate(light(10_000, past), [1e-7] * 10_000, 2)
    assert light(10_000, past).next_size() > MOST_BET
    past = past_of(1e-7)
    given = Chunker(2, length=100_000, chunksize=50_000, past=past)
    given.sent(50_000)
    given.record(50_000, 50_000 * 1e-7)
    assert light(100_000, past).next_size() == past_of(1e-7).proven, "a size that was given proves nothing"


def test_a_share_that_is_not_worth_splitting_goes_as_one_bet_if_as_many_have_proven_well() -> None:
    past = Past()
    simulate(light(200_000, past), [1e-8] * 200_000, 2)
    chunks, _ = simulate(light(3_000, past), [1e-8] * 3_000, 2)
    assert sizes(chunks) == [1_500, 1_500]
    chunks, _ = simulate(light(3_000, past_of(1e-8)), [1e-8] * 3_000, 2)
    assert sizes(chunks)[:2] == [past_of(1e-8).proven] * 2


@pytest.mark.parametrize(
    "chunker",
    [
        light(1000),  # nothing is known
        light(1000, Past()),  # nor was it then
        light(1000, past_of(SHORT_ITEM * 1.1)),
        light(2 * FEW_ITEMS, past_of(1e-7)),
        Chunker(2, length=1000, past=past_of(1e-7)),  # rows may be dear
        Chunker(2, may_bet=True, past=past_of(1e-7)),  # a share of how many?
    ],
)
def test_nothing_is_bet_on_what_is_not_known_or_is_slow_or_little(chunker: Chunker) -> None:
    assert not chunker.is_bet
    assert chunker.next_size() == 1


def test_a_slow_item_in_a_map_is_a_warning_for_the_next_ones_until_it_is_forgotten() -> None:
    past = past_of(*[1e-7] * 5_000, 3 * LONG_CHUNK, *[1e-7] * 4_999)
    for may_bet in (False, True):
        second = light(10_000, past)
        assert second.is_bet is may_bet
        simulate(second, [1e-7] * 10_000, 2)


@pytest.mark.parametrize("seconds", [1e-4, 1e-2])
def test_a_bet_that_is_lost_costs_next_to_nothing(seconds: float) -> None:
    past = past_of(1e-7)
    past.proven = MOST_ITEMS
    for bet in (past_of(1e-7), past):
        chunks, ended = simulate(light(1000, bet), [seconds] * 1000, 2)
        assert sizes(chunks)[:2] == [min(MOST_BET, max(1, int(TARGET / seconds)))] * 2
        assert sum(sizes(chunks)) == 1000
        assert ended < seconds * 500 * 1.1 + TARGET


def test_nothing_is_bet_after_what_was_not_light_until_a_map_was() -> None:
    past = past_of(1e-7)
    second = light(1000, past)
    second.weigh(is_light=False)
    assert not second.is_bet
    simulate(second, [1e-7] * 1000, 2)
    third = light(1000, past)
    assert not third.is_bet
    assert third.next_size() == 1
    simulate(third, [1e-7] * 1000, 2)
    assert light(1000, past).is_bet


@pytest.mark.parametrize(("seconds", "goes_on"), [(TARGET * 0.9, True), (TARGET * 0.1, False)])
def test_a_bet_that_ended_before_its_time_was_the_last_one(seconds: float, goes_on: bool) -> None:
    chunker = light(10_000, past_of(1e-7))
    size = chunker.next_size()
    chunker.sent(size)
    chunker.came_back(4, seconds)  # to an awaitable, or a large result
    chunker.record(size - 4, (size - 4) * 1e-7)
    assert chunker.is_bet is False
    chunker.record(1, 1e-7)
    assert light(10_000, chunker._past).is_bet is goes_on


def test_what_was_dear_to_pickle_is_so_in_the_next_map() -> None:
    past = Past()
    chunker = light(1000, past)
    chunker.sent(1)
    chunker.record(1, 1e-7, TURN / 2)
    assert light(1000, past).next_size() == 2
