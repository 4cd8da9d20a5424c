"""What `Worker.statistics` returns: frozen snapshots."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from offloop.observe.histogram import Histogram


class RunningTask(NamedTuple):
    """A task that was running when a snapshot was taken.

    Attributes:
        task: a short text that names it, such as ``resize('a.png')``.
        seconds: how long it had run.
    """

    task: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class WorkerStatistics:
    """One worker at one moment.

    Attributes:
        worker_id: its number within its pool.
        state: ``"starting"``, ``"idle"``, ``"busy"``, or ``"retiring"``: it gets no more tasks.
        pid: its process id; None for a thread, and while the process is being started.
        seconds: how long ago it was started.
        done: how many tasks have ended there, however they ended.
        sent: how many tasks it holds, those that run included.
        running: those that run, the one that has run longest first.
        busy_seconds: for how long it has run tasks; tasks that overlap count each.
        rss: its resident memory in bytes; None where it has no process, or it has just ended.
        bytes_out, bytes_in: what went to it and came from it, through sockets and segments; 0 for a thread.
    """

    worker_id: int
    state: str
    pid: int | None
    seconds: float
    done: int
    sent: int
    running: tuple[RunningTask, ...]
    busy_seconds: float
    rss: int | None
    bytes_out: int
    bytes_in: int

    @property
    def current_task(self) -> str | None:
        """The task that runs there (of several, the one that has run longest), or None."""
        return self.running[0].task if self.running else None


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a pool or a worker has done, and does, at one moment.

    ``str()`` of it is a table for people; `to_dict` is for programs.  At every
    moment ``submitted == queued + sent + done``.

    Attributes:
        time: when it was taken, in seconds of `time.monotonic`.
        context: where the workers live, such as ``"process"``; of ``factory="auto"``, what it picked.
        submitted: how many tasks were enqueued (a chunk of a map is one task).
        queued: of them, how many wait for a worker.
        sent: how many are in the workers' hands.
        running: of those that were sent, how many run.
        succeeded: how many have returned.
        failed: how many ended with an exception, could not be pickled or loaded, or found no worker.
        cancelled: how many were cancelled, while they waited or while they ran.
        timed_out: how many ran longer than their ``timeout``.
        crashed: how many failed with `WorkerCrashed`, killed: with `WorkerKilled`.
        workers: the workers that there are.
        started: how many workers were ever started.
        restarts: of them, how many in place of one that died, was killed, could not start, or was
            replaced in good order; not those started anew after others retired for idleness.
        crashes: workers that died by themselves.  One that was killed because its task went on
            after it was cancelled is among the restarts alone.
        failed_starts: workers that ended before they were ready.
        busy_seconds: for how long tasks have run, together; tasks that overlap count each.
        capacity_seconds: for how long they could have: the lives of the workers from ready to
            gone, each times the tasks that it may run at a time (its factory's ``concurrency``).
        bytes_out, bytes_in: what went to worker processes and came from them, through sockets and segments.
        wait: how long the tasks that ran had waited to start, since the turn of the event loop in which
            they were enqueued: the error is at most the length of that turn.
        run: how long they ran, whether they succeeded or not; without those whose worker died.
    """

    time: float
    context: str
    submitted: int
    queued: int
    sent: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    timed_out: int
    crashed: int
    killed: int
    workers: tuple[WorkerStatistics, ...]
    started: int
    restarts: int
    crashes: int
    failed_starts: int
    busy_seconds: float
    capacity_seconds: float
    bytes_out: int
    bytes_in: int
    wait: Histogram
    run: Histogram

    @property
    def done(self) -> int:
        """How many tasks have ended, however they ended."""
        return self.succeeded + self.failed + self.cancelled + self.timed_out + self.crashed + self.killed

    @property
    def busy_fraction(self) -> float:
        """The part of the workers' time, since they were ready, in which they ran tasks: 0 to 1."""
        if self.capacity_seconds <= 0:
            return 0.0
        return min(max(self.busy_seconds / self.capacity_seconds, 0.0), 1.0)

    @property
    def worker_states(self) -> dict[str, int]:
        """How many workers are ``"starting"``, ``"idle"``, ``"busy"`` and ``"retiring"``."""
        found = Counter(worker.state for worker in self.workers)
        return {state: found[state] for state in ("starting", "idle", "busy", "retiring")}

    def since(self, earlier: Statistics) -> Statistics:
        """What happened between an earlier snapshot of the same pool and this one.

        Returns:
            A snapshot whose counters, seconds, bytes and histograms are those of
            the interval, and so its ``busy_fraction``.  ``queued``, ``sent``,
            ``running`` and ``workers`` are what they are now.
        """
        changes: dict[str, Any] = {name: getattr(self, name) - getattr(earlier, name) for name in _COUNTERS}
        changes["wait"], changes["run"] = self.wait.since(earlier.wait), self.run.since(earlier.run)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Everything as dictionaries, lists and numbers, for JSON; of the histograms the usual numbers."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["done"], plain["busy_fraction"] = self.done, self.busy_fraction
        plain["worker_states"] = self.worker_states
        plain["wait"], plain["run"] = self.wait.to_dict(), self.run.to_dict()
        plain["workers"] = [
            asdict(worker) | {"running": [task._asdict() for task in worker.running]}
            for worker in self.workers
        ]
        return plain

    def __str__(self) -> str:
        from offloop.observe.table import table

        return table(self)


#: What only grows.
_COUNTERS = (
    "submitted succeeded failed cancelled timed_out crashed killed started restarts crashes "
    "failed_starts busy_seconds capacity_seconds bytes_out bytes_in"
).split()
