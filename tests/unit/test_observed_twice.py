"""An outcome that comes twice, by the socket and out of the journal, leaves nothing for the next one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from offloop.observed import ObservedHandle


def test_the_second_one_is_not_taken_for_the_end_of_another_task() -> None:
    handle: Any = ObservedHandle.__new__(ObservedHandle)
    handle.state = SimpleNamespace(hand={})
    assert handle._take(1, 0.0, 1.0) is None
    assert handle._end is None
