"""Tasks of one worker that may run for some time only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offloop.execution import Execution
    from offloop.link import Link
    from offloop.scheduling.state import WorkerState

#: Seconds beyond its timeout that a task waits for a worker that has it and runs nothing, before that is
#: taken for stuck between two tasks.
STUCK = 10.0
#: Seconds at the least between two looks at tasks that have not begun.
TICK = 5e-3


class Timeouts:
    """Sees which tasks have run for longer than they may.

    One timer serves all tasks of a worker: one for each would outlive most of them.

    Args:
        loop: the event loop.
        worker: the worker's state, with the tasks that it has.
        interrupt: called with each task whose time is up, and "timeout".
        give_up: called if the worker is stuck.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        worker: WorkerState[Execution[Any]],
        interrupt: Callable[[Execution[Any], str], None],
        give_up: Callable[[], None],
    ) -> None:
        self._loop, self._worker = loop, worker
        self._interrupt, self._give_up = interrupt, give_up
        self._timer: asyncio.TimerHandle | None = None
        #: Since when the worker is seen to run nothing, and what it had ended last by then.
        self._idle: tuple[float, float] | None = None

    def watch(self, seconds: float, link: Link) -> None:
        """Look after ``seconds`` at the latest whether a task has run for its timeout."""
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._check, link)

    def cancel(self) -> None:
        """The worker is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, link: Link) -> None:
        self._timer = None
        hand = self._worker.hand
        timed = [(item, item.timeout) for item in hand.values() if item.timeout and item.reason is None]
        if not timed:
            return
        link.poll()  # they may have ended while the event loop was held up
        started, now = dict(link.running()), monotonic()
        if self._idle_since(link, started, now) + STUCK + min(timeout for _, timeout in timed) < now:
            self._give_up()
            return
        for item, timeout in timed:
            if item.id in hand:
                left = started.get(item.id, now) + timeout - now
                if item.id not in started:
                    self.watch(max(left, TICK), link)
                elif left > 0:
                    self.watch(left, link)
                else:
                    self._interrupt(item, "timeout")

    def _idle_since(self, link: Link, started: Mapping[int, float], now: float) -> float:
        """Since when the worker runs nothing, as far as was seen, although it has all that it was sent."""
        progress = self._worker.progress
        if any(id in started for id in self._worker.hand) or not link.is_through():
            self._idle = None
            return now
        if self._idle is None or self._idle[1] != progress:
            self._idle = now, progress
        return self._idle[0]
