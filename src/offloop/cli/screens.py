"""Where the progress, the failures and the results of ``offloop map`` are shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

from offloop.cli.results import LineFile

#: Seconds between two lines of progress where no bar can be drawn.
INTERVAL = 5.0


class Screen(Protocol):
    """Shows progress while it is open; lines may be written all the time."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def __call__(self, done: int, /) -> None:
        """Show how many inputs are done."""
        ...

    def tell(self, text: str) -> None:
        """Write to standard error."""
        ...

    def put(self, line: str, file: LineFile) -> None:
        """Write a line to a file that may be on the same terminal."""
        ...


class Silent(AbstractContextManager["Silent"]):
    """A screen that shows no progress."""

    def __exit__(self, *exc_info: object) -> None:
        """Nothing to put away."""

    def __call__(self, done: int, /) -> None:
        """Show nothing."""

    def tell(self, text: str) -> None:
        """Write to standard error."""
        print(text, file=sys.stderr, flush=True)

    def put(self, line: str, file: LineFile) -> None:
        """Write the line."""
        file.write_line(line)


class Lines(Silent):
    """A screen for a log: now and then a line on standard error.

    Args:
        title: what each line begins with.
        total: how many inputs there are, or None if that is not known.
        clock: returns seconds.
    """

    def __init__(
        self, title: str, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._title = title
        self._total = total
        self._clock = clock
        self._began = self._told = clock()
        self._done = 0

    def __call__(self, done: int, /) -> None:
        """Tell how far it is, if the last line is long enough ago."""
        self._done = done
        if self._clock() - self._told >= INTERVAL:
            self._tell_progress()

    def __exit__(self, *exc_info: object) -> None:
        self._tell_progress()

    def _tell_progress(self) -> None:
        self._told = self._clock()
        seconds = self._told - self._began
        rate = f"{self._done / seconds:,.1f}/s" if seconds > 0 else "-/s"
        self.tell(f"{self._title}: {inputs_of(self._done, self._total)} in {seconds:,.0f} s, {rate}")


def inputs_of(done: int, total: int | None = None, kind: str = "") -> str:
    """How many, such as ``1 input``, ``1,200 of 5,000 inputs`` or ``2 other inputs``."""
    count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
    return f"{count} {kind}input{'' if (done if total is None else total) == 1 else 's'}"


def screen_for(title: str, total: Callable[[], int | None], progress: bool | None) -> Screen:
    """The screen that suits standard error.

    Args:
        title: what is running.
        total: counts the inputs; called only if that is shown.
        progress: whether to show it; None where a bar can be drawn on a terminal.
    """
    is_terminal = sys.stderr.isatty()
    if progress is False or (progress is None and not is_terminal):
        return Silent()
    if is_terminal:
        try:
            from offloop.cli.bar import Bar
        except ImportError:  # rich is an extra
            pass
        else:
            return Bar(title, total())
    return Lines(title, total()) if progress else Silent()
