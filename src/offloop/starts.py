"""How often starting workers has failed, with none that succeeded, and what a pool does then.

A pool that has workers goes on with them, and tries again after a while: a fork
that is refused (too many processes, no memory) is no reason to fail tasks that
others can run.  A pool that has none fails what waits, rather than try for ever.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any
from warnings import warn

from offloop.wire.tracebacks import brief

if TYPE_CHECKING:
    from offloop.scheduling.scheduler import Scheduler
    from offloop.scheduling.state import WorkerState

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
        heal: whether more than one is tried; those of a single worker are not.
    """

    def __init__(self, scheduler: Scheduler[Any], resume: Callable[[], object], *, heal: bool = True) -> None:
        self._scheduler = scheduler
        self._resume = resume
        self._enough = MAX_START_FAILURES if heal else 0
        self._failures = 0.0
        self._pause = PAUSE
        self._paused_at = 0.0  # the latest time
        self._timer: TimerHandle | None = None
        self._untold: BaseException | None = None

    def failed(
        self, loop: AbstractEventLoop, worker: WorkerState[Any], problem: BaseException, *, killed: bool
    ) -> list[Any]:
        """One more, which others ``killed``, or not.

        Returns:
            What waits and is to fail, if that was enough: all that nobody could run, where no worker
            is left for what comes; else what waits for this very worker.
        """
        self._failures += KILLED_START if killed else 1
        if self._failures < self._enough:
            return []
        ready, coming = self._scheduler.helpers()
        if not ready and not coming:
            self._begin_anew()  # in that what comes next is tried as if nothing had been
            self._scheduler.discouraged = True
            return self._scheduler.waiting_for_starts()
        if self._timer is None:  # else this one was under way when the others had failed
            self._scheduler.held_off = True
            self._paused_at = monotonic()
            self._timer = loop.call_later(self._pause, self._try_again)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._untold = problem
        self._tell(loop)
        return list(worker.pinned)

    def succeeded(self, loop: AbstractEventLoop, asked: float) -> None:
        """A worker is ready, for which was ``asked`` then.

        One that was under way when the others failed says nothing of the next one: the last
        descriptors may have gone to it.
        """
        if asked > self._paused_at:
            self._begin_anew()
        else:
            self._tell(loop)

    def _tell(self, loop: AbstractEventLoop) -> None:
        """Warn of a pause, once it is known with how many workers the pool goes on."""
        ready, coming = self._scheduler.helpers()
        if self._untold is None or coming or not ready:
            return
        problem, self._untold = self._untold, None
        text = f"The pool goes on with {ready} worker(s), as no more can be started: {_line(problem)}"
        loop.call_soon(lambda: warn(text, RuntimeWarning, stacklevel=1))  # which may raise

    def _begin_anew(self) -> None:
        self._failures = self._paused_at = 0.0
        self._pause = PAUSE
        self.cancel()

    def cancel(self) -> None:
        """Wait no more."""
        self._untold = None
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
