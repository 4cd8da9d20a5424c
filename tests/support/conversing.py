"""A conversation between a pool and its workers in which every step of the protocol is passed."""

from __future__ import annotations

import asyncio
from typing import Any

from soak.load import check_history

from offloop import Execution, WorkerCrashed, WorkerPool
from support import noted
from support.bounds import eventually
from support.gates import Log


class Conversation:
    """Has a pool of two run tasks of each kind, and checks what becomes of them.

    Args:
        pool: two workers, which are sent tasks far ahead (`prefetch.TARGET` is infinite).
        log: where the tasks note when they begin and end.
        is_async: whether there are async tasks as well, for which a worker has to import `asyncio`.
    """

    def __init__(self, pool: WorkerPool, log: Log, *, is_async: bool) -> None:
        self.pool = pool
        self._log = log
        self._is_async = is_async
        self.executions: list[Execution[Any]] = []

    def submit(self, function: Any, *args: Any) -> Execution[Any]:
        """Enqueue a task with the next number."""
        number = len(self.executions) + 1
        self.executions.append(self.pool.submit(function, self._log.path, number, *args))
        return self.executions[-1]

    async def speak(self) -> None:
        """All kinds of tasks; then some that are cancelled, with some behind them that are taken back."""
        for _ in range(6):
            self.submit(noted.plain)
        self.submit(noted.failing)
        await self._all()
        self.submit(noted.large)
        self.submit(noted.changed, noted.Block(bytearray(noted.LARGE)))
        await self._all()  # and so their memory is free
        self.submit(noted.importing)
        self.submit(noted.large)
        self.submit(noted.changed, noted.Block(bytearray(noted.LARGE)))
        self.submit(noted.looked_through, noted.Block(bytearray(noted.LARGE)))
        await asyncio.gather(self._stream(), return_exceptions=True)
        await self._all()
        await self._cancel_and_take_back()
        if self._is_async:
            self.submit(noted.later)
            self.submit(noted.later)
            await self._all()

    async def _stream(self) -> None:
        number = len(self.executions) + 1
        async with self.pool.stream(noted.counted, self._log.path, number) as stream:
            self.executions.append(stream.execution)
            assert [item async for item in stream] == [0, 1, 2, 3]

    async def _cancel_and_take_back(self) -> None:
        waiting = [self.submit(noted.waiting)]
        behind = [self.submit(noted.plain) for _ in range(4)]
        waits = [*waiting]
        await eventually(lambda: all(each.done() or each.started_at is not None for each in waits))
        # Its worker is silent, and the other has nothing to do, so what is behind it is taken back;
        # unless it died, and they run in the next.
        await eventually(lambda: all(each.done() or each.worker_id is None for each in behind))
        for each in waiting:
            each.cancel()
        await self._all()

    async def _all(self) -> None:
        await asyncio.wait(self.executions)

    async def be_innocent(self) -> None:
        """Tasks that come later, of which none may fail."""
        await asyncio.gather(*(self.submit(noted.plain) for _ in range(6)))
        if self._is_async:
            await self.submit(noted.later)

    def lost(self) -> int:
        """How many executions ended for their worker's death; each other one ended as it should.

        By what the tasks noted themselves, each ran at most once, and to its end if it has a result.
        """
        assert all(execution.done() for execution in self.executions)
        finished: dict[int, bool] = {}
        lost = 0
        for number, execution in enumerate(self.executions, 1):
            error = None if execution.cancelled() else execution.exception()
            finished[number] = not execution.cancelled() and error is None
            lost += isinstance(error, WorkerCrashed)
            assert error is None or isinstance(error, (WorkerCrashed, ValueError)), error
        assert check_history("\n".join(self._log.lines()), finished) == []
        return lost
