"""Segments that nobody uses now: found by their size, given up in the order in which they became free.

A program may have thousands of them, and every large payload needs one: so no
step here looks at each.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

TYPE_CHECKING = False

if TYPE_CHECKING:
    from offloop.shm.segments import Segment


class FreeSegments:
    """The free segments of one owner; iterating goes from the longest unused to the latest used.

    Attributes:
        bytes: their size together.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._all: dict[int, Segment] = {}  # by number, the longest unused first
        self._by_size: dict[int, dict[int, Segment]] = {}
        self._sizes: list[int] = []  # the sizes there are, ascending: few, for `rounded` makes them alike

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, number: int) -> bool:
        return number in self._all

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._all.values())

    def add(self, segment: Segment) -> None:
        """A segment became free."""
        self.bytes += segment.size
        self._all[segment.number] = segment
        alike = self._by_size.get(segment.size)
        if alike is None:
            alike = self._by_size[segment.size] = {}
            insort(self._sizes, segment.size)
        alike[segment.number] = segment

    def remove(self, segment: Segment) -> None:
        """A segment is used again, or closed."""
        self.bytes -= segment.size
        del self._all[segment.number]
        alike = self._by_size[segment.size]
        del alike[segment.number]
        if not alike:
            del self._by_size[segment.size]
            del self._sizes[bisect_left(self._sizes, segment.size)]

    def fitting(self, least: int, most: int) -> Segment | None:
        """Of the smallest from ``least`` to ``most`` bytes the one used last: its pages are the warmest."""
        at = bisect_left(self._sizes, least)
        if at == len(self._sizes) or self._sizes[at] > most:
            return None
        return next(reversed(self._by_size[self._sizes[at]].values()))
