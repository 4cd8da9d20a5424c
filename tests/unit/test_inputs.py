"""The inputs of a map, a chunk at a time."""

from __future__ import annotations

import math
from collections import UserList
from typing import TYPE_CHECKING, Any

import pytest

from offloop.inputs import SyncInput, read_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator


def taken(iterable: Iterable[Any], size: int) -> list[list[Any]]:
    """The chunks of an input, the last one shorter."""
    source, chunks = SyncInput([iterable]), list[list[Any]]()
    while not chunks or len(chunks[-1]) == size:
        rows, error = source.take(size)
        assert error is None
        chunks.append(list(rows))
    source.close()
    return chunks


@pytest.mark.parametrize("kind", [list, tuple, range, iter, UserList])
def test_every_input_comes_in_the_same_chunks(kind: Any) -> None:
    def made(count: int) -> Any:
        return range(count) if kind is range else kind(range(count))

    assert taken(made(7), 3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert taken(made(6), 3) == [[0, 1, 2], [3, 4, 5], []]
    assert taken(made(0), 3) == [[]]


def test_parts_of_a_range_stay_ranges() -> None:
    source = SyncInput([range(10, 0, -2)])
    assert source.take(3) == (range(10, 4, -2), None)
    assert source.take(3) == (range(4, 0, -2), None)


def test_what_is_added_to_a_list_meanwhile_comes_too_and_a_subclass_is_asked() -> None:
    class Doubling(list[int]):
        def __iter__(self) -> Any:
            return (2 * item for item in range(3))

    growing = [1]
    source = SyncInput([growing])
    assert source.take(1) == ([1], None)
    growing.append(2)
    assert source.take(2) == ([2], None)
    assert taken(Doubling(), 4) == [[0, 2, 4]]


def test_an_input_says_how_much_is_left_once_its_end_was_seen() -> None:
    pulled: list[int] = []

    def generated() -> Iterator[int]:
        for number in range(10):
            pulled.append(number)
            yield number

    source = SyncInput([generated()])
    assert source.take(2) == ([0, 1], None)
    assert source.left(5, 2, math.inf) is None
    assert pulled == [*range(7)]  # five ahead
    assert source.take(3) == ([2, 3, 4], None)
    assert pulled == [*range(7)]
    assert source.left(6, 3, math.inf) == 5
    assert source.take(3) == ([5, 6, 7], None)
    assert source.left(6, 3, math.inf) == 2
    assert source.take(3) == ([8, 9], None)
    assert source.take(3) == ([], None)


def test_no_more_than_a_step_is_read_ahead_when_time_is_up() -> None:
    numbers = iter(range(100))
    source = SyncInput([numbers])
    assert source.left(50, 7, -math.inf) is None
    assert next(numbers) == 7


def test_what_an_input_raises_waits_behind_the_rows_read_ahead() -> None:
    def generated() -> Iterator[int]:
        yield from range(4)
        raise LookupError("as planned")

    source = SyncInput([generated()])
    assert source.left(10, 10, math.inf) == 4
    assert source.take(3) == ([0, 1, 2], None)
    rows, error = source.take(3)
    assert rows == [3]
    assert isinstance(error, LookupError)


def test_a_ctrl_c_in_an_input_does_not_wait_for_the_rows_read_ahead() -> None:
    def generated() -> Iterator[int]:
        yield from range(6)
        raise KeyboardInterrupt

    source = SyncInput([generated()])
    assert source.left(10, 10, math.inf) == 6
    rows, error = source.take(2)
    assert rows == [0, 1]
    assert isinstance(error, KeyboardInterrupt)


@pytest.mark.parametrize("is_async", [True, False])
async def test_each_input_is_closed_whatever_another_one_raises(is_async: bool) -> None:
    closed: list[int] = []

    def rows(number: int) -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(number)
            raise LookupError(number)

    async def async_rows(number: int) -> AsyncIterator[int]:
        try:
            for row in range(9):
                yield row
        finally:
            closed.append(number)
            raise LookupError(number)

    if is_async:
        reading = read_rows([async_rows(0), rows(1), async_rows(2)])
        await anext(reading)
        with pytest.raises(LookupError):
            await reading.aclose()
    else:
        source = SyncInput([rows(0), rows(1), rows(2)])
        source.take(1)
        with pytest.raises(LookupError):
            source.close()
    assert sorted(closed) == [0, 1, 2]
