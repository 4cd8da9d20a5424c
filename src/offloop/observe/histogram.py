"""Histograms of durations: log-linear buckets that are filled in bulk.

A duration's bucket is the upper 16 bits of its float: sign, exponent, and four
bits of the mantissa.  So there are 16 buckets for each doubling, of equal width,
none is wider than a sixteenth of the durations in it, and they reach from less
than a nanosecond to more than a century.  It is the layout of HdrHistogram
(Gil Tene), with IEEE 754 in place of the logarithm: sorting a thousand durations
into their buckets is a few calls of C, at about 50 ns a duration.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf
from struct import Struct

#: Which of a float's eight bytes are the uppermost one, and the next.
_UPPER, _LOWER = (7, 6) if sys.byteorder == "little" else (0, 1)
_BITS = Struct(">Hxxxxxx")
_FLOAT = Struct(">d")
#: Buckets from this on are those of infinity, of what is no number, and of negative durations, which
#: come from comparing the clocks of two machines.
_STRANGE = 0x7FF0


def _lower(bucket: int) -> float:
    """The shortest duration, in seconds, that belongs to a bucket."""
    bound: float = _FLOAT.unpack(_BITS.pack(bucket))[0]
    return bound


@dataclass(frozen=True)
class Histogram:
    """How long things took: a frozen snapshot, all durations in seconds.

    A quantile is off by at most 1/32 (3.2 %) of its value; count, mean, least
    and greatest are exact.  With no durations everything is 0.

    Attributes:
        count: how many durations.
        total: their sum.
        min, max: the shortest and the longest.
    """

    count: int = 0
    total: float = 0.0
    min: float = 0.0
    max: float = 0.0
    _counts: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return self.total / self.count if self.count else 0.0

    @property
    def p50(self) -> float:
        """The median."""
        return self.quantile(0.5)

    @property
    def p90(self) -> float:
        """Nine out of ten took no longer."""
        return self.quantile(0.9)

    @property
    def p99(self) -> float:
        """99 out of 100 took no longer."""
        return self.quantile(0.99)

    def quantile(self, q: float) -> float:
        """The shortest duration that a fraction ``q`` of all did not exceed (the nearest rank).

        Args:
            q: from 0 to 1.

        Returns:
            Seconds, off by at most 1/32 of the value.

        Raises:
            ValueError: ``q`` is out of range.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is between 0 and 1, not {q}")
        rank = max(1, ceil(q * self.count))
        if rank >= self.count:
            return self.max
        if rank == 1:
            return self.min
        seen = 0
        for bucket, count in self._counts:
            seen += count
            if seen >= rank:
                middle = (_lower(bucket) + _lower(bucket + 1)) / 2 if bucket else 0.0
                return min(max(middle, self.min), self.max)
        return self.max

    @property
    def buckets(self) -> tuple[tuple[float, int], ...]:
        """``(upper bound in seconds, how many)`` for each bucket that is not empty, shortest first."""
        return tuple((_lower(bucket + 1), count) for bucket, count in self._counts)

    def since(self, earlier: Histogram) -> Histogram:
        """What was added after an earlier snapshot; its least and greatest are known to their bucket only."""
        left = Counter(dict(self._counts))
        left.subtract(dict(earlier._counts))
        counts = tuple(sorted((bucket, count) for bucket, count in left.items() if count > 0))
        if not counts:
            return Histogram()
        low = max(_lower(counts[0][0]), self.min)
        high = min(_lower(counts[-1][0] + 1), self.max)
        return Histogram(self.count - earlier.count, self.total - earlier.total, low, high, counts)

    def to_dict(self) -> dict[str, float]:
        """The numbers that are usually looked at, for JSON."""
        names = ("count", "mean", "min", "max", "p50", "p90", "p99")
        return {name: getattr(self, name) for name in names}


def _count(raw: bytes) -> dict[int, int]:
    """How many of these floats belong to each bucket."""
    upper = raw[_UPPER::8]
    if upper.count(upper[0]) < len(upper):
        return Counter(array("H", raw)[_UPPER // 2 :: 4])
    # All within 16 doublings, as a rule: to count bytes takes half the time.
    first = upper[0] << 8
    return {first | lower: count for lower, count in Counter(raw[_LOWER::8]).items()}


class Recorder:
    """Gathers durations for a `Histogram`."""

    __slots__ = ("_counts", "_highest", "_lowest", "count", "max", "min", "total")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._lowest, self._highest = _STRANGE, 0  # the outermost buckets that are not empty
        self.count = 0
        self.total = self.max = 0.0
        self.min = inf

    def record_many(self, values: Sequence[float]) -> None:
        """Add durations in seconds, at a cost of about 60 ns each; what is no duration counts as 0."""
        if not values:
            return
        batch = _count(array("d", values).tobytes())
        lowest, highest = min(batch), max(batch)
        if highest >= _STRANGE:
            self.record_many([value if 0 < value < inf else 0.0 for value in values])
            return
        # To look for the extremes among all the values would cost a third more.
        if highest >= self._highest:
            longest = max(values)
            self._highest, self.max = highest, max(self.max, longest)
        if lowest <= self._lowest:
            shortest = min(values)
            self._lowest, self.min = lowest, min(self.min, shortest)
        known = self._counts
        for bucket, count in batch.items():
            known[bucket] = known.get(bucket, 0) + count
        self.count += len(values)
        self.total += sum(values)

    def add(self, other: Recorder) -> None:
        """Add all that another one has."""
        self._lowest, self._highest = min(self._lowest, other._lowest), max(self._highest, other._highest)
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)
        self._counts.update(other._counts)
        self.count += other.count
        self.total += other.total

    def snapshot(self) -> Histogram:
        """What was recorded so far."""
        counts = tuple(sorted(self._counts.items()))
        return Histogram(self.count, self.total, self.min if self.count else 0.0, self.max, counts)
