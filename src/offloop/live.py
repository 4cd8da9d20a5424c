"""What goes between a running task and whoever holds its execution, beside its outcome."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from offloop.changes import Changes
from offloop.channel import Channel, has_ended
from offloop.wire.frames import MESSAGE, OPENED, RECEIVED, REPORT, REPORTED, STACK

if TYPE_CHECKING:
    from offloop.execution import Execution
    from offloop.link import Link

#: How many reports of a task are kept for those who ask later.
KEPT = 1000
#: Seconds that a worker has to say where a task is.
STACK_ANSWER = 1.0


class Progress(NamedTuple):
    """How far a task has come, as it reported.

    Attributes:
        done: how much is done, in the task's own unit.
        total: how much there is to do, or None if that is not known.
        message: a text for people, or None.
    """

    done: float
    total: float | None = None
    message: str | None = None


class Live:
    """One execution's share in it; made when somebody first asks, or the task first says something."""

    def __init__(self, execution: Execution[Any]) -> None:
        self._id = execution.id
        #: It refers to this: a cycle would keep the task's arguments.
        self._execution = ref(execution)
        self._changes = Changes(execution.get_loop())
        self._reports: deque[Progress] = deque(maxlen=KEPT)
        self._reported = 0
        self._channel: Channel | None = None
        self._stack: asyncio.Future[str] | None = None
        execution.add_done_callback(self._ended)

    @property
    def channel(self) -> Channel:
        """The parent's end of its channel."""
        if self._channel is None:
            execution = self._execution()
            assert execution is not None, "it was asked"
            self._channel = Channel(execution)
        return self._channel

    def hear(self, kind: int, value: Any, link: Link) -> None:
        """Take in what the running task said; see `offloop.link.LinkOwner.link_said`."""
        if kind == REPORT:
            self._reports.extend(Progress(*report) for report in value)
            self._reported += len(value)
            link.tell(REPORTED, self._id)
            self._changes.announce()
        elif kind == OPENED:
            self.channel.opened(link)
        elif kind == MESSAGE:
            self.channel.put(value)
        elif kind == RECEIVED:
            self.channel.was_received()
        elif kind == STACK:
            self._answer_stack(value)

    async def stack(self, link: Link) -> str:
        """Ask where the running task is; see `offloop.Execution.stack`."""
        if self._stack is None:
            self._stack = asyncio.get_running_loop().create_future()
        answer = self._stack
        link.tell(STACK, self._id)
        await asyncio.wait([answer], timeout=STACK_ANSWER)
        return answer.result() if answer.done() else await link.dump_stack()

    def _answer_stack(self, text: str) -> None:
        if self._stack is not None:
            self._stack.set_result(text)
            self._stack = None

    def restart(self) -> None:
        """The task's worker died, and the task is tried again."""
        self._answer_stack("")
        if self._channel is not None:
            self._channel.restart()

    async def follow(self) -> AsyncGenerator[Progress, None]:
        """The reports so far, then those to come, until the execution ends."""
        seen = self._reported - len(self._reports)
        while True:
            # What fell out of the deque meanwhile is passed over.
            missed = min(self._reported - seen, len(self._reports))
            seen = self._reported
            for report in list(self._reports)[len(self._reports) - missed :]:
                yield report
            if seen < self._reported:
                continue
            if has_ended(self._execution):
                return
            await self._changes.wait()

    def _ended(self, execution: asyncio.Future[Any]) -> None:
        self._answer_stack("")
        self._changes.announce()
        if self._channel is not None:
            self._channel.close()
