"""Tasks of one worker that may run for some time only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offloop.execution import Execution
    from offloop.link import Link
    from offloop.scheduling.state import WorkerState

#: Seconds beyond its timeout that a task waits for a worker that has it and runs nothing, before that is
#: taken for stuck between two tasks.  Large arguments may be on their way for some of them.
STUCK = 10.0


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
        timed = [item for item in hand.values() if item.timeout is not None and item.reason is None]
        if not timed:
            return
        link.poll()  # they may have ended while the event loop was held up
        started, now = dict(link.running()), monotonic()
        shortest = min(item.timeout for item in timed if item.timeout is not None)
        if now > self._worker.progress + STUCK + shortest and not any(id in started for id in hand):
            self._give_up()
            return
        for item in timed:
            if item.id in hand and item.timeout is not None:
                left = started.get(item.id, now) + item.timeout - now
                if left > 0:
                    self.watch(left, link)
                else:
                    self._interrupt(item, "timeout")
