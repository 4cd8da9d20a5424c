"""Takes the snapshots: what the meters have counted, and what goes on right now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from offloop.observe.meter import Meter
from offloop.observe.statistics import RunningTask, Statistics, WorkerStatistics
from offloop.scheduling.state import READY, STARTING, WorkerState
from offloop.task import describe

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher
    from offloop.handle import WorkerHandle

#: Whether the kernel tells of processes below /proc; and the unit in which it counts their memory.
_PROC = os.path.exists("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def of_dispatcher(dispatcher: Dispatcher) -> Statistics:
    """The statistics of all of a dispatcher's workers."""
    _check_thread(dispatcher)
    handles = list(dispatcher.handles.values())
    total = dispatcher.meters.total(handle.meter for handle in handles)
    scheduler = dispatcher.scheduler
    return _statistics(dispatcher, total, handles, scheduler.queued, scheduler.in_hand, dispatcher.submitted)


def of_worker(dispatcher: Dispatcher, state: WorkerState[Any], meter: Meter) -> Statistics:
    """The statistics of one of a dispatcher's workers: of the tasks that it was given, or wait for it."""
    _check_thread(dispatcher)
    handle = dispatcher.handles.get(state.number)
    total = Meter()
    total.add(meter)
    queued, sent = len(state.pinned), len(state.hand)
    submitted = queued + sent + sum(total.outcomes.values())
    return _statistics(dispatcher, total, [handle] if handle is not None else [], queued, sent, submitted)


def _check_thread(dispatcher: Dispatcher) -> None:
    """Refuse another thread while the event loop may change what is counted here."""
    if dispatcher.loop is not None and dispatcher.loop.is_running():
        dispatcher.bind()


def _statistics(
    dispatcher: Dispatcher,
    total: Meter,
    handles: Sequence[WorkerHandle],
    queued: int,
    sent: int,
    submitted: int,
) -> Statistics:
    """Put a snapshot together.  ``total`` is changed: what living workers have not added yet is added."""
    now = monotonic()
    workers: list[WorkerStatistics] = []
    for handle in handles:
        worker = _worker_statistics(handle, now)
        workers.append(worker)
        total.lost += sum(task.seconds for task in worker.running)
        total.capacity += handle.capacity(now)
        total.sent += worker.bytes_out
        total.received += worker.bytes_in
    return Statistics(
        time=now,
        context=dispatcher.factory.kind,
        submitted=submitted,
        queued=queued,
        sent=sent,
        running=sum(len(worker.running) for worker in workers),
        workers=tuple(workers),
        started=total.starts,
        restarts=total.restarts,
        crashes=total.crashes,
        failed_starts=total.failed_starts,
        busy_seconds=total.busy,
        capacity_seconds=total.capacity,
        bytes_out=total.sent,
        bytes_in=total.received,
        wait=total.wait.snapshot(),
        run=total.run.snapshot(),
        **total.outcomes,
    )


def _worker_statistics(handle: WorkerHandle, now: float) -> WorkerStatistics:
    state, link, meter = handle.state, handle.link, handle.meter
    held = [(start, state.hand.get(id)) for id, start in link.running()]  # some may have ended since
    running = tuple(
        RunningTask(describe(item.task), max(0.0, now - start))
        for start, item in sorted((entry for entry in held if entry[1]), key=lambda entry: entry[0])
        if item is not None
    )
    bytes_out, bytes_in = link.traffic()
    return WorkerStatistics(
        worker_id=state.number,
        state=_name_of(state),
        pid=link.pid,
        seconds=now - handle.began,
        done=sum(meter.outcomes.values()),
        sent=len(state.hand),
        running=running,
        busy_seconds=meter.busy + sum(task.seconds for task in running),
        rss=resident_memory(link.pid),
        bytes_out=bytes_out,
        bytes_in=bytes_in,
    )


def _name_of(state: WorkerState[Any]) -> str:
    if state.phase == STARTING:
        return "starting"
    if state.phase != READY:
        return "retiring"
    return "idle" if state.is_idle else "busy"


def resident_memory(pid: int | None) -> int | None:
    """A process's resident memory in bytes; None for one that is not there (any more).

    On Linux it costs about 10 µs; elsewhere `psutil` has to be loaded once, which takes longer.
    """
    if pid is None:
        return None
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split()[1])
        return pages * _PAGE or None  # 0: it has ended, and nobody took its status
    except FileNotFoundError:
        return None if _PROC else _resident_memory_anywhere(pid)
    except OSError:
        return None


def _resident_memory_anywhere(pid: int) -> int | None:
    import psutil

    try:
        return psutil.Process(pid).memory_info().rss or None
    except psutil.Error:
        return None
