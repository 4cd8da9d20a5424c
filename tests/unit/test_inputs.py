"""The inputs of a map, a chunk at a time."""

from __future__ import annotations

from collections import UserList
from typing import TYPE_CHECKING, Any

import pytest

from offloop.inputs import SyncInput

if TYPE_CHECKING:
    from collections.abc import Iterable


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
