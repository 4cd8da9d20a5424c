"""The engine of ``offloop map``: each input with its result or its exception."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from offloop.mapchunk import unpack
from offloop.maprun import MapOptions, MapRun

if TYPE_CHECKING:
    from offloop.mapchunk import Chunk
    from offloop.workerpool import WorkerPool


class Pair(NamedTuple):
    """An input, and what came of it: a result or an exception, or the task that goes on trying."""

    text: str
    outcome: Any


class Outcomes:
    """Each input with its result or exception; an asynchronous iterable, to be used once.

    Inputs go through the chunks of `offloop.maprun.MapRun`: fast ones travel by
    the thousand.  Nobody knows which item of a chunk killed the worker, so the
    items of one that failed as a whole are then run one by one, and only the
    culprit fails.  That first run of theirs counts as none.

    Args:
        pool: where to run.
        call: called with each input.
        inputs: the inputs, pulled as there is room for them.
        ordered: pairs come in the order of the inputs, else as they are ready.
        timeout: seconds of running time for an input, or None.
        retries: how often an input that fails is tried again.
    """

    def __init__(
        self,
        pool: WorkerPool,
        call: Callable[[str], Any],
        inputs: AsyncIterable[str],
        *,
        ordered: bool,
        timeout: float | None,
        retries: int,
    ) -> None:
        self._run = _PairRun(
            pool, call, (inputs,), MapOptions(ordered=ordered, timeout=timeout, return_exceptions=True)
        )
        self._caller = pool.options(timeout=timeout)
        self._call = call
        self._ordered = ordered
        self._retries = retries
        self._ready: asyncio.Queue[list[Pair] | None] = asyncio.Queue()
        self._trying: set[asyncio.Task[Any]] = set()

    async def __aiter__(self) -> AsyncGenerator[tuple[str, Any], None]:
        pump = asyncio.create_task(self._pump())
        try:
            while (pairs := await self._ready.get()) is not None:
                for text, outcome in pairs:
                    yield text, (await outcome if isinstance(outcome, asyncio.Task) else outcome)
                self._run.release(len(pairs))
            await pump  # raises what the inputs raised
        finally:
            await self._end([pump, *self._trying])

    async def _pump(self) -> None:
        """Hand over what the run gives, and try again what failed."""
        try:
            while (pairs := await self._run.next_values()) is not None:
                if ready := [pair for each in pairs if (pair := self._judged(each)) is not None]:
                    self._ready.put_nowait(ready)
            while self._trying:
                await asyncio.wait(self._trying)
        finally:
            self._ready.put_nowait(None)

    def _judged(self, pair: Pair) -> Pair | None:
        """The pair to hand over now, or None if it will come by itself."""
        if pair.outcome is not _UNDECIDED and not (self._retries and isinstance(pair.outcome, BaseException)):
            return pair
        trying = asyncio.create_task(self._try_again(*pair))
        self._trying.add(trying)
        trying.add_done_callback(self._trying.discard)
        if self._ordered:
            return Pair(pair.text, trying)
        trying.add_done_callback(lambda trying: self._hand_over(pair.text, trying))
        return None

    def _hand_over(self, text: str, trying: asyncio.Task[Any]) -> None:
        if not trying.cancelled():
            self._ready.put_nowait([Pair(text, trying)])

    async def _try_again(self, text: str, outcome: Any) -> Any:
        tries = self._retries + (outcome is _UNDECIDED)
        while tries and (outcome is _UNDECIDED or isinstance(outcome, BaseException)):
            outcome = await _outcome(self._caller.submit(self._call, text))
            tries -= 1
        return outcome

    async def _end(self, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._run.aclose()


#: In place of an outcome: the chunk failed as a whole.
_UNDECIDED = object()


class _PairRun(MapRun):
    """A run whose values are pairs."""

    def _open(self, chunk: Chunk) -> list[Any]:
        outcomes, failure = unpack(chunk, return_exceptions=True)
        if failure is not None:  # no worker starts
            outcomes = [failure] * len(chunk.rows)
        elif chunk.error is not None and len(outcomes) > 1:
            outcomes = [_UNDECIDED] * len(outcomes)
        return list(map(Pair, chunk.rows, outcomes))


async def _outcome(execution: asyncio.Future[Any]) -> Any:
    """The result or the exception of an execution; being cancelled, it cancels that."""
    try:
        await asyncio.wait([execution])
    finally:
        execution.cancel()
    if execution.cancelled():
        return asyncio.CancelledError()
    error = execution.exception()
    return execution.result() if error is None else error
