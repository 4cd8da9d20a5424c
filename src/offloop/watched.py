"""Seeing what a worker or a pool does, and has done."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher
    from offloop.liveview import LiveView
    from offloop.observe.statistics import Statistics
    from offloop.tracing import Trace


class Watched:
    """What `Worker` has of this; each loads what it needs when it is first used."""

    _dispatcher: Dispatcher

    def statistics(self) -> Statistics:
        """A frozen snapshot of what was done and goes on: counts, times, bytes, and each worker.

        It works at any time, also before the first task and after the end.
        What it needs is counted always.  Taking it costs about 0.1 ms, 50 µs
        more for each worker process.

        Raises:
            RuntimeError: called from another thread or event loop.
        """
        from offloop.observe.snapshot import of_dispatcher

        return of_dispatcher(self._dispatcher)

    def trace(self, path: str | os.PathLike[str]) -> Trace:
        """Record every task, and what becomes of workers, to a file: ``async with pool.trace("run.json"):``.

        It costs about 7 µs for each task.  While no trace is on, nothing
        is paid for it.  A lease's records the whole pool.

        Args:
            path: the file, which is replaced.  `Trace` says what is in it.

        Returns:
            The trace, which begins on entering its ``async with`` block and ends on leaving it.
        """
        from offloop.tracing import Trace

        return Trace(self._dispatcher, path)

    def live(self, *, interval: float = 0.5) -> LiveView:
        """Show in the terminal what goes on, for as long as a ``with`` block lasts (extra ``cli``).

        Workers, queue, rates and times, made of `statistics`, on standard error.  Where that is
        no terminal nothing is shown.

        Args:
            interval: seconds between two looks, each of which costs what `statistics` costs.

        Raises:
            ImportError: the extra is not installed; on entering the block.
            RuntimeError: entered on another thread or event loop, or twice.
            ValueError: ``interval`` is not above 0.
        """
        from offloop.liveview import LiveView

        return LiveView(self._dispatcher, self.statistics, interval)
