"""Which reports of progress are sent when: the first at once, the others as the parent keeps up.

Pure: no clock and no I/O.  One message of reports is under way at a time; what
is reported meanwhile is gathered, and goes with the next.  So a loop that reports a
million times costs the parent no more than it has time for, without a timer.
"""

from __future__ import annotations

from collections import deque

from offloop.wire.byvalue import type_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    Number = int | float
    Report = tuple[Number, Number | None, str | None]

#: How many reports are gathered; beyond that the oldest of them are dropped, never the last.
KEPT = 1000


class ReportBuffer:
    """One task's reports on their way."""

    def __init__(self) -> None:
        self._gathered: deque[Report] = deque(maxlen=KEPT)
        self._is_under_way = False

    def add(self, report: Report) -> list[Report]:
        """Take a report; returns those to be sent now."""
        if self._is_under_way:
            self._gathered.append(report)
            return []
        self._is_under_way = True
        return [report]

    def arrived(self) -> list[Report]:
        """Note that the parent has what was under way; returns those to be sent now."""
        self._is_under_way = bool(self._gathered)
        return self.take_rest()

    def take_rest(self) -> list[Report]:
        """The task ends: everything that was not sent."""
        rest = list(self._gathered)
        self._gathered.clear()
        return rest


def checked_report(done: Any, total: Any, message: Any) -> Report:
    """The report as plain numbers and text, which can always be pickled and loaded.

    Raises:
        TypeError: ``done`` or ``total`` is no real number, or ``message`` no string.
    """
    if type(done) is not int:
        done = _number("done", done)
    if total is not None and type(total) is not int:
        total = _number("total", total)
    if message is not None and type(message) is not str:
        if not isinstance(message, str):
            raise TypeError(f"message must be a str or None, not {type(message).__name__}")
        message = str.__str__(message)
    return done, total, message


def _number(name: str, value: Any) -> Number:
    kind = type_of(value)
    if isinstance(value, float):
        return float(value)
    if not isinstance(value, (bool, str, bytes, complex)):
        if hasattr(kind, "__index__"):  # NumPy's integers
            return int(value)
        if hasattr(kind, "__float__"):  # NumPy's floats, fractions, decimals
            return float(value)
    raise TypeError(f"{name} must be a number, not {kind.__name__}")
