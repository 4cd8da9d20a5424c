"""Recording what a pool does: ``pool.trace(path)``."""

from __future__ import annotations

import asyncio
import os
import time
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import offloop
from offloop.link import Exit
from offloop.observe.chrome import (
    BEGIN,
    END,
    QUEUE,
    details,
    event_line,
    lane_lines,
    quote,
    task_line,
    unrun_line,
)
from offloop.observe.lanes import Lanes
from offloop.observe.writer import BatchWriter
from offloop.observed import Ending, Observer, observe, unobserve
from offloop.task import class_name, describe, name_of
from offloop.wire.tracebacks import brief

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher
    from offloop.execution import Execution
    from offloop.handle import WorkerHandle

#: Seconds after which what was recorded is written, or earlier if there are so many lines.
FLUSH_AFTER, BATCH = 0.2, 1024
#: A task that ran for as many seconds, or failed, is recorded with its arguments: to find a text
#: for them takes some 10 µs.
WORTH_A_TEXT = 0.001


class Trace(Observer):
    """Records every task and what becomes of workers to a file; what ``trace`` returns.

    Use it as an asynchronous context manager, or call `start` and `stop`.  The file
    is a JSON array in Chrome's trace event format, for https://ui.perfetto.dev,
    ``chrome://tracing`` and ``offloop report``.  It is written in batches by a
    thread, at least five times a second while something happens, and can be read at any time, also
    after the program was killed: the array's end may be missing.

    If the pool is shut down meanwhile, the trace is complete then, and ends.

    Attributes:
        path: the file's path.
        recorded: how many events were recorded.
        dropped: how many were not, because the disk did not keep up.
    """

    def __init__(self, dispatcher: Dispatcher, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.recorded = self.dropped = 0
        self._dispatcher = dispatcher
        self._lines: list[str] = []
        self._lanes = Lanes()
        self._names: dict[str, str] = {}
        self._pid = os.getpid()
        self._is_due = self._is_over = False
        self._writer: BatchWriter | None = None
        self._error: OSError | None = None

    def start(self) -> None:
        """Open the file, in place of one that was there, and record from now on.

        Raises:
            OSError: the file can't be opened.
            StatusError: the pool was shut down.
            RuntimeError: called from another thread or event loop, or a second time.
        """
        if self._writer is not None:
            raise RuntimeError("a trace is started once; make another one")
        dispatcher = self._dispatcher
        dispatcher.check_open()
        self._loop = dispatcher.bind()
        # Without a buffer, which a forked child would write once more; the writer closes it.
        file = open(self.path, "wb", buffering=0)  # noqa: SIM115
        self._writer = BatchWriter(file, self._loop, self._failed, self._end)
        self._write_header()
        observe(dispatcher, self)
        for handle in dispatcher.handles.values():
            if handle.ready.done():
                self._name_lane(handle.state.number, 0, handle.link.pid)

    async def stop(self) -> None:
        """Record no more, and wait until the file is complete.  Idempotent.

        Tasks that run at this moment are recorded as far as they got.

        Raises:
            OSError: something could not be written; what was written before can be read.
        """
        if self._writer is None:
            return
        self._end()
        await asyncio.shield(self._writer.ended)  # others may wait for it as well, or come again
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        except OSError as problem:
            if error is None:
                raise
            error.add_note(f"and the trace {self.path!r} is incomplete: {problem}")

    def __repr__(self) -> str:
        state = "ended" if self._is_over else "not started" if self._writer is None else "recording"
        return f"<Trace {self.path!r} {state} recorded={self.recorded}>"

    # -- what is told -----------------------------------------------------------

    def ended(self, execution: Execution[Any], ending: Ending) -> None:
        """Record a task."""
        task, queued = execution.task, execution._enqueued
        start, end = ending.start, ending.end
        name = self._quoted(name_of(task))
        is_plain = ending.outcome == "succeeded"
        text = None
        if not is_plain or (start is not None and end - start >= WORTH_A_TEXT):
            text = describe(task)
        more = "" if ending.sent is None else f',"sent":{ending.sent}'
        if ending.received is not None:
            more += f',"received":{ending.received}'
        if text is not None or execution.attempt > 1:
            attempt = execution.attempt - (ending.outcome == "retried")
            error = None if ending.error is None else class_name(ending.error)
            more += details(task=text, error=error, attempt=attempt if attempt > 1 else None)
        if start is None or ending.worker is None:
            line = unrun_line(self._pid, name, end, execution.id, queued, ending.outcome, more)
        else:
            slot = self._lanes.slot(ending.worker, start, end)
            lane = self._name_lane(ending.worker, slot)
            line = task_line(self._pid, lane, name, start, end, execution.id, queued, ending.outcome, more)
        self._add(line)

    def worker_ready(self, handle: WorkerHandle) -> None:
        """Record how long a worker's start took."""
        number, pid = handle.state.number, handle.link.pid
        lane = self._name_lane(number, 0, pid)
        args = {"worker": number, "pid": pid, "restart": bool(handle.meter.restarts)}
        took = monotonic() - handle.began
        self._add(event_line("X", "starting", self._pid, lane, handle.began, args, dur=took))

    def worker_ended(self, handle: WorkerHandle, exit: Exit, how: str) -> None:
        """Record a worker's end."""
        number = handle.state.number
        lane = self._name_lane(number, 0, exit.pid)
        args: dict[str, Any] = {"worker": number, "pid": exit.pid, "code": exit.code}
        if exit.out_of_memory:
            args["out_of_memory"] = True
        if exit.problem is not None:
            args["problem"] = brief(exit.problem)[:500]
        self._add(event_line("i", how, self._pid, lane, monotonic(), args, s="t"))

    def closed(self) -> None:
        """The pool has ended."""
        self._end()

    # -- the file -----------------------------------------------------------------

    def _write_header(self) -> None:
        now, limits = monotonic(), self._dispatcher.policy.limits
        args = {
            "offloop": offloop.__version__,
            "clock": now,
            "time": time.time(),
            "max_workers": limits.max_workers,
            "concurrency": limits.slots,
        }
        self._lines.append(BEGIN)
        self._add(event_line("M", "process_name", self._pid, 0, 0, {"name": "offloop"}))
        self._add(event_line("i", "trace begins", self._pid, QUEUE, now, args, s="p"))
        self._add(lane_lines(self._pid, QUEUE, "never ran", -1, {}))

    def _name_lane(self, worker: int, slot: int, pid: int | None = None) -> int:
        """A lane's number; its name is written where it is new."""
        lane, is_new = self._lanes.lane(worker, slot)
        if is_new:
            name = f"worker {worker}" + (f" ({slot + 1})" if slot else "")
            args = {"worker": worker, "slot": slot, "worker_pid": pid}
            self._add(lane_lines(self._pid, lane, name, worker * 2000 + slot, args))
        return lane

    def _quoted(self, name: str) -> str:
        quoted = self._names.get(name)
        if quoted is None:
            if len(self._names) > 10_000:  # a program that makes functions all the time
                self._names.clear()
            quoted = self._names[name] = quote(name)
        return quoted

    def _add(self, line: str) -> None:
        self.recorded += 1
        lines = self._lines
        lines.append(line)
        if len(lines) >= BATCH:
            self._flush()
        elif not self._is_due and not self._is_over:
            self._is_due = True
            self._loop.call_later(FLUSH_AFTER, self._flush_due)

    def _flush_due(self) -> None:
        self._is_due = False
        self._flush()

    def _flush(self) -> None:
        assert self._writer is not None
        if self._lines and not self._writer.write("".join(self._lines)):
            self.dropped += len(self._lines)
            self.recorded -= len(self._lines)
        self._lines.clear()

    def _failed(self, error: OSError) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        """Write what is left, and the array's end."""
        if self._is_over or self._writer is None:
            return
        self._is_over = True
        unobserve(self._dispatcher, self)
        now = monotonic()
        self._add_running(now)
        args = {"dropped": self.dropped, "queued": self._dispatcher.scheduler.queued}
        self._add(event_line("i", "trace ends", self._pid, QUEUE, now, args, s="p").rstrip(",\n") + END)
        self._flush()
        self._writer.close()

    def _add_running(self, now: float) -> None:
        """Record the tasks that run, as far as they have got."""
        for handle in self._dispatcher.handles.values():
            for id, start in handle.link.running():
                execution = handle.state.hand.get(id)
                if execution is not None and start <= now:
                    self.ended(execution, Ending("running", handle.state.number, start, now))
