"""How often starting workers has failed, with none that succeeded."""

from __future__ import annotations

#: Failed starts in a row after which what waits fails.
MAX_START_FAILURES = 3
#: For how many failures a start counts that others ended, by a signal: it says little of the next one.
KILLED_START = 1 / 8


class Starts:
    """Counts them."""

    def __init__(self) -> None:
        self._failures = 0.0

    def failed(self, *, killed: bool) -> bool:
        """One more, which others ``killed``, or not; returns whether that is enough, and begins anew then."""
        self._failures += KILLED_START if killed else 1
        if self._failures < MAX_START_FAILURES:
            return False
        self._failures = 0.0
        return True

    def succeeded(self) -> None:
        """A worker is ready."""
        self._failures = 0.0
