"""How often starting workers has failed, with none that succeeded, and what a pool does then.

A pool that has workers goes on with them, and tries again after a while: a fork
that is refused (too many processes, no memory) is no reason to fail tasks that
others can run.  A pool that has none fails what waits, rather than try for ever.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from warnings import warn

from offloop.wire.tracebacks import brief

if TYPE_CHECKING:
    from offloop.scheduling.scheduler import Scheduler

#: Failed starts in a row after which no more are tried at once.
MAX_START_FAILURES = 3
#: For how many failures a start counts that others ended, by a signal: it says little of the next one.
KILLED_START = 1 / 8
#: Seconds for which a pool then goes on with the workers that it has: at first, and at the most.
PAUSE, LONGEST_PAUSE = 1.0, 60.0


class Starts:
    """Counts them.

    Args:
        scheduler: is told to start none for a while.
        resume: called when that is over.
    """

    def __init__(self, scheduler: Scheduler[Any], resume: Callable[[], object]) -> None:
        self._scheduler = scheduler
        self._resume = resume
        self._failures = 0.0
        self._pause = PAUSE
        self._timer: TimerHandle | None = None

    def failed(self, loop: AbstractEventLoop, problem: BaseException, *, killed: bool) -> bool:
        """One more, which others ``killed``, or not.

        Returns:
            Whether what waits is to fail: that was enough, and there is nobody who could run it.
        """
        self._failures += KILLED_START if killed else 1
        if self._failures < MAX_START_FAILURES:
            return False
        ready, coming = self._scheduler.helpers()
        if not ready and not coming:
            self.succeeded()  # in that what comes next is tried as if nothing had been
            return True
        if self._timer is None:  # else this one was under way when the others had failed
            self._scheduler.held_off = True
            self._timer = loop.call_later(self._pause, self._try_again)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if ready:
                text = f"The pool goes on with {ready} worker(s), as no more can be started: {_line(problem)}"
                loop.call_soon(lambda: warn(text, RuntimeWarning, stacklevel=1))  # which may raise
        return False

    def succeeded(self) -> None:
        """A worker is ready."""
        self._failures = 0.0
        self._pause = PAUSE
        self.cancel()

    def cancel(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._end_pause()

    def _end_pause(self) -> None:
        self._timer = None
        self._scheduler.held_off = False

    def _try_again(self) -> None:
        self._end_pause()
        self._failures = 0.0
        self._resume()


def _line(problem: BaseException) -> str:
    return brief(problem).partition("\n")[0]
