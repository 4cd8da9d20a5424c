"""What feeds a `Map`: it pulls the inputs, and sends them to a worker in chunks.

The *pump* pulls rows and sends them in chunks while there is space.  An async
input is pulled by a *reader* of its own, row by row, so that a slow input
holds up neither results nor the rows before it: while workers have nothing to
do, each row is sent at once, and while they are busy, rows gather into chunks.
Nothing here polls.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from offloop.changes import Signal
from offloop.child.chunk import is_light
from offloop.errors import OffloopError, QueueFull
from offloop.inputs import AsyncInput, Failure, SyncInput, failure_of, is_async, is_cancelled
from offloop.mapchunk import Chunk, are_light, seconds_to_pickle, weight_of
from offloop.scheduling.chunking import TARGET, TURN, Chunker
from offloop.task import CallableTask

#: Chunks that may show, when rows are pickled on trial, that it is the rows which take long to send.
TRIALS = 8


class MapWorker(Protocol):
    """What a map needs of a worker or a pool.

    It may have ``max_workers`` and ``concurrency`` (how many tasks one worker
    overlaps), both 1 by default, ``wait_for_room`` if it raises `QueueFull`,
    ``_kind_of``, which tells the `Kind` of a function's calls: what maps learn lasts,
    and ``_watch`` and ``_check_still``, which tell when it takes no more tasks (see `offloop.Worker`).
    """

    def enqueue(self, task: Any, /, *, timeout: float = ...) -> asyncio.Future[Any]:
        """Queue a task and return its execution."""
        ...


class Feed:
    """Pulls the inputs and sends them, from its construction on.

    Rows are in flight from when they are pulled until they are released.

    Args:
        worker: where chunks are enqueued.
        make_task: makes the task of some rows, and of the seconds that it may take if it is a bet.
        iterables: the inputs.
        chunker: decides the size of chunks; none is larger than ``limit``.
        slots: how many chunks may be outstanding.
        limit: how many rows may be in flight, or None for what fills all slots.
        buffer: how many there may be at least, where there is no limit.
        timeout: running time of a chunk in seconds, or None for the worker's own default.
        on_sent: called with each chunk when it was sent.
        on_done: called with each chunk when it is done, and with None when the inputs have ended.
    """

    def __init__(
        self,
        worker: MapWorker,
        make_task: Callable[..., CallableTask[Any]],
        iterables: Sequence[Any],
        chunker: Chunker,
        *,
        slots: int,
        limit: int | None,
        buffer: int,
        timeout: float | None,
        on_sent: Callable[[Chunk], object],
        on_done: Callable[[Chunk | None], object],
    ) -> None:
        self._worker = worker
        self._make_task = make_task
        self._chunker = chunker
        self._slots = slots
        self._limit = limit
        self._buffer = buffer
        self._timeout = timeout
        self._on_sent = on_sent
        self._on_done = on_done
        self._outstanding: dict[asyncio.Future[Any], None] = {}  # an ordered set
        self._given_back: deque[Chunk] = deque()  # by bets
        self._sent = self.in_flight = self._bets = 0
        self._trials = TRIALS
        self._is_stopped = self._is_interrupted = self._has_ended = False
        self._space = Signal()  # for the pump: a slot, room or rows may be there
        self._failure: Failure = []  # of the pump
        self._refusal: Failure = []  # of the worker, which takes no more tasks
        self._input: AsyncInput | None = None
        self.loop = asyncio.get_running_loop()
        pump = self._pump_async if any(map(is_async, iterables)) else self._pump_sync
        # Let go of when it is done: what it raises refers to its frames, and these to us.
        self._pump: asyncio.Task[None] | None = self.loop.create_task(pump(iterables), name="offloop map")
        self._pump.add_done_callback(self._on_pump_done)

    @property
    def is_done(self) -> bool:
        """Whether the inputs have ended and every chunk is done."""
        return self._pump is None and not self._outstanding

    def check(self) -> None:
        """Raise what an input raised, once the inputs have ended."""
        if self._failure:
            raise self._failure.pop()

    def release(self, count: int) -> None:
        """Make room: ``count`` rows are no longer in flight."""
        self.in_flight -= count
        if self._input is not None:
            self._input.read_on()
        self._space.set()

    def stop(self, spare: Callable[[asyncio.Future[Any]], bool] | None = None) -> None:
        """Pull no more, and cancel what was sent; the second time it does nothing.

        Args:
            spare: tells which executions are left to finish; by default none.
        """
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._input is not None:
            self._input.stop()
        if self._pump is not None and not self._pump.done():
            self._is_interrupted = True
            self._pump.cancel()
        # The last ones first: else one that waits behind a running one could start in between.
        for execution in [*reversed(self._outstanding)]:
            if spare is None or not spare(execution):
                execution.cancel()

    async def aclose(self) -> None:
        """Stop, and wait until everything has ended and the inputs are closed.

        Raises:
            Exception: an input raised it while it was being closed.
        """
        self.stop()
        while ending := self._ending():
            await asyncio.wait(ending)
        # What an input raised before it was stopped belongs to rows that nobody asked for.
        if self._is_interrupted and not is_cancelled(self._failure):
            self.check()
        self._failure.clear()

    def _ending(self) -> list[asyncio.Future[Any]]:
        """What has not ended."""
        reader = self._input.reader if self._input is not None else None
        return [*self._outstanding, *filter(None, (self._pump, reader))]

    async def _pump_sync(self, iterables: Sequence[Any]) -> None:
        source = SyncInput(iterables)
        try:
            turn = time.perf_counter()
            while True:
                if not self._has_space():
                    await self._space.wait_until(self._has_space)
                    turn = time.perf_counter()
                if self._given_back:
                    await self._send_again()
                elif self._has_ended:
                    return
                else:
                    await self._send_next(source)
                if time.perf_counter() - turn > TURN:
                    await asyncio.sleep(0)
                    turn = time.perf_counter()
        finally:
            source.close()

    async def _send_next(self, source: SyncInput) -> None:
        """Pull and send a chunk."""
        began, before = time.perf_counter(), source.read
        self._look_ahead(source, began)
        size, is_bet = self._chunker.next_size(), self._chunker.is_bet
        rows, error = source.take(size)
        self._has_ended = len(rows) < size
        self.in_flight += len(rows)
        if rows:
            now = time.perf_counter()  # what was read for the next ones is not this one's to bear
            share = len(rows) / max(source.read - before, len(rows))
            await self._send_new(rows, now - (now - began) * share, is_bet=is_bet)
        if error is not None:
            assert not self._bets, "inputs that are bet on raise nothing"
            try:
                raise error
            finally:
                del error  # no cycle through its traceback

    async def _send_again(self) -> None:
        """Send rows that a bet gave back."""
        began = time.perf_counter()
        chunk = self._given_back.popleft()
        size, chunk.is_bet = self._chunker.next_size(), self._chunker.is_bet
        if size < len(chunk.rows):
            self._given_back.appendleft(chunk.split(size))
        await self._send(chunk, began)

    def _look_ahead(self, source: SyncInput, now: float) -> None:
        """See the end of an input in time to share out what is left, where its length is not known."""
        ahead = self._chunker.ahead()
        if not ahead:
            return
        size = self._chunker.next_size()
        most = self._limit if self._limit is not None else max(self._buffer, self._slots * size)
        rows = min(ahead, most - self.in_flight)
        if rows > 0 and (left := source.left(rows, size, now + TURN)) is not None:
            self._chunker.ends_after(left)

    async def _pump_async(self, iterables: Sequence[Any]) -> None:
        watch = getattr(self._worker, "_watch", None)
        unwatch = watch(self._on_worker_end) if watch is not None else _do_nothing
        source = self._input = AsyncInput(iterables, self._has_room, self._on_row, self._space.set)
        try:
            while True:
                await self._space.wait_until(lambda: self._has_space() or self._refusal or source.is_done)
                if source.is_done:
                    return
                if self._refusal:
                    raise self._refusal.pop()
                began = time.perf_counter()
                if source.reader is None:
                    self._chunker.ends_after(len(source.rows))
                size = self._chunker.next_size()
                rows = source.rows[:size]
                del source.rows[:size]
                await self._send_new(rows, began)
        finally:
            unwatch()
            await source.aclose()

    def _on_row(self) -> None:
        self.in_flight += 1
        self._space.set()

    def _has_space(self) -> bool:
        """Whether the pump may send a chunk now, or has come to its end."""
        if self._has_ended and not self._given_back:
            return not self._bets
        if len(self._outstanding) >= self._chunker.outstanding(self._slots):
            return False
        if self._input is not None:
            return bool(self._input.rows)
        return bool(self._given_back) or self._has_room(self._chunker.next_size())

    def _has_room(self, size: int = 1) -> bool:
        """Whether so many more rows may be in flight."""
        in_flight = self.in_flight + size
        if self._limit is not None:
            return in_flight <= self._limit
        return in_flight <= self._buffer or in_flight <= self._slots * self._chunker.next_size()

    async def _send_new(self, rows: Sequence[Any], began: float, *, is_bet: bool = False) -> None:
        """Send rows whose pulling began at ``began``, when the worker has room for them."""
        chunk = Chunk(self._sent, rows)
        self._sent += len(rows)
        chunk.is_bet = is_bet and are_light(rows)
        if is_bet and not chunk.is_bet:
            self._chunker.weigh(is_light=False)
            size = self._chunker.next_size()
            if size < len(rows):
                self._given_back.appendleft(chunk.split(size))
        await self._send(chunk, began)
        self._on_sent(chunk)

    async def _send(self, chunk: Chunk, began: float) -> None:
        task = self._make_task(chunk.rows, TARGET) if chunk.is_bet else self._make_task(chunk.rows)
        while True:
            try:
                execution = self._enqueue(task)
                break
            except QueueFull:
                if not hasattr(self._worker, "wait_for_room") and not self._outstanding:
                    raise  # there is nothing whose end could be waited for
            await self._wait_for_room()
            began = time.perf_counter()
        self._chunker.sent(len(chunk.rows), time.perf_counter() - began)
        self._outstanding[execution] = None
        self._bets += chunk.is_bet
        execution.add_done_callback(functools.partial(self._on_execution_done, chunk))

    def _enqueue(self, task: CallableTask[Any]) -> asyncio.Future[Any]:
        if self._timeout is None:
            return self._worker.enqueue(task)
        return self._worker.enqueue(task, timeout=self._timeout)

    async def _wait_for_room(self) -> None:
        wait_for_room = getattr(self._worker, "wait_for_room", None)
        if wait_for_room is not None:
            await wait_for_room()
        else:
            count = len(self._outstanding)
            await self._space.wait_until(lambda: len(self._outstanding) < count)

    def _on_execution_done(self, chunk: Chunk, execution: asyncio.Future[Any]) -> None:
        self._outstanding.pop(execution, None)
        self._bets -= chunk.is_bet
        count = len(chunk.rows)
        rest = chunk.finish(execution)
        if execution.cancelled() and not self._is_stopped:  # by others: its worker is to end, as a rule
            chunk.error = _end_of(self._worker) or chunk.error
        if chunk.outcome is not None:
            seconds, values, _ = chunk.outcome
            if rest is not None:
                self._given_back.append(rest)
                self._chunker.came_back(len(rest.rows), seconds)
            light = is_light(chunk.rows[-1]) and is_light(values[-1])
            self._chunker.weigh(is_light=light, result=0 if light else weight_of(values[-1]))
            sending = getattr(execution, "pickling", 0.0) + getattr(execution, "copying", 0.0)
            loading = getattr(execution, "loading", 0.0)
            own = self._seconds_to_pickle(chunk.rows, sending)
            carried = None if own is None else max(0.0, sending - own)
            pickling = sending - (carried or 0.0)
            self._chunker.record(len(values), seconds, pickling * len(values) / count, loading, carried)
        elif not execution.cancelled():
            self._chunker.lost()
        self._space.set()
        self._tell(chunk)

    def _seconds_to_pickle(self, rows: Sequence[Any], sending: float) -> float | None:
        """Of sending, what was for the rows themselves, not for what the function carries; None: unknown."""
        if not sending or are_light(rows):
            return 0.0
        if not self._trials:
            return None
        seconds = seconds_to_pickle(rows)
        if seconds is None or seconds > sending / 2:
            self._trials -= 1
        return seconds

    def _on_worker_end(self, error: BaseException) -> None:
        self._refusal.append(error)
        self._space.set()

    def _on_pump_done(self, pump: asyncio.Task[None]) -> None:
        self._pump, self._failure = None, failure_of(pump)
        self._tell(None)

    def _tell(self, chunk: Chunk | None) -> None:
        on_done = self._on_done
        if self.is_done:  # for the last time: who is told refers to us, which would be a cycle
            self._on_done = _do_nothing
            self._given_back.clear()
        on_done(chunk)


def _end_of(worker: MapWorker) -> BaseException | None:
    """What a worker that takes no more tasks raises; None if it takes some."""
    try:
        getattr(worker, "_check_still", _do_nothing)()
    except OffloopError as error:
        return error.with_traceback(None)
    return None


def _do_nothing(*_: object) -> None:
    pass
