"""Progress of a `map`: when to report it, and where a bar comes from."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

#: Seconds between two reports: ten a second look smooth.
INTERVAL = 0.1


class ProgressBar(Protocol):
    """A bar: called with ``(done, total)`` inside its ``with`` block."""

    def __call__(self, done: int, total: int | None = None, /) -> None:
        """Show that ``done`` of ``total`` items are done."""
        ...

    def __enter__(self) -> Any:
        """Start drawing."""
        ...

    def __exit__(self, *error: object) -> Any:
        """Draw the last state and stop."""
        ...


def progress_bar(title: str = "map") -> ProgressBar:
    """A progress bar on stderr, silent where that is no terminal.

    Args:
        title: short text at its left end.

    Raises:
        ImportError: the extra is not installed.
    """
    try:
        # Loaded by name, as a plug-in: the bar belongs to the command line, a layer above this one.
        module = importlib.import_module("offloop.cli.bar")
    except ModuleNotFoundError as error:
        raise ImportError("progress=True needs the extra offloop[cli]: pip install 'offloop[cli]'") from error
    bar: ProgressBar = module.Bar(title)
    return bar


class Reporter:
    """Calls a progress callback at most ten times a second, and once at the end.

    Args:
        callback: a callable that gets ``(done, total)``, or a `ProgressBar`.
        clock: returns seconds.
    """

    def __init__(
        self, callback: Callable[[int, int | None], object] | ProgressBar, clock: Callable[[], float]
    ) -> None:
        self._callback = callback
        self._clock = clock
        self._done = 0
        self._last: tuple[int, int | None] | None = None
        self._due = float("-inf")
        self._is_open = False

    def add(self, count: int, total: int | None) -> None:
        """Note ``count`` more finished items; reports if the last report is long enough ago.

        Raises:
            Exception: whatever the callback raises.
        """
        self._done += count
        now = self._clock()
        if now >= self._due:
            self._due = now + INTERVAL
            self._report(total)

    def finish(self) -> None:
        """Report the end, when the total is known for certain; raises what the callback raises."""
        if self._last != (self._done, self._done):
            self._report(self._done)

    def close(self) -> None:
        """Stop drawing.  Idempotent."""
        if self._is_open:
            self._is_open = False
            bar: Any = self._callback
            bar.__exit__(None, None, None)

    def _report(self, total: int | None) -> None:
        bar: Any = self._callback
        if not self._is_open and hasattr(bar, "__exit__"):
            bar.__enter__()
            self._is_open = True
        self._last = (self._done, total)
        bar(self._done, total)
