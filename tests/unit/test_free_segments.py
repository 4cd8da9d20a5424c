"""The free segments of one owner, against a list of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, strategies as st

from offloop.shm.free import FreeSegments


@dataclass
class Segment:
    """What a free list knows of a segment."""

    number: int
    size: int


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 6)),
            st.tuples(st.just("take"), st.tuples(st.integers(0, 7), st.integers(0, 7))),
            st.tuples(st.just("close"), st.just(0)),
        ),
        max_size=40,
    )
)
def test_it_finds_the_smallest_that_fits_and_of_those_the_one_used_last(steps: list[tuple[str, Any]]) -> None:
    free: Any = FreeSegments()
    model: list[Segment] = []
    for number, (what, value) in enumerate(steps):
        if what == "add":
            segment = Segment(number, value)
            free.add(segment)
            model.append(segment)
        elif what == "take":
            least, most = value
            fitting = [segment for segment in model if least <= segment.size <= most]
            size = min((segment.size for segment in fitting), default=0)
            expected = next((segment for segment in reversed(fitting) if segment.size == size), None)
            assert free.fitting(least, most) is expected
            if expected is not None:
                free.remove(expected)
                model.remove(expected)
        elif model:
            assert next(iter(free)) is model[0], "the longest unused comes first"
            free.remove(model.pop(0))
        assert list(free) == model
        assert len(free) == len(model)
        assert free.bytes == sum(segment.size for segment in model)
        assert all(segment.number in free for segment in model)
        assert number not in free or what == "add"
