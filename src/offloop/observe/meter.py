"""What is counted of a pool's work, always: cheap enough for a hundred thousand tasks a second.

A task that has run costs two appends here.  What was appended is sorted into
histograms when a thousand have gathered, or when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from weakref import WeakValueDictionary

from offloop.errors import TaskTimeout, WorkerCrashed, WorkerKilled
from offloop.observe.histogram import Recorder

#: How a task can end.
OUTCOMES = ("succeeded", "failed", "cancelled", "timed_out", "crashed", "killed")
_OUTCOME_OF: dict[type, str] = {
    TaskTimeout: "timed_out",
    WorkerCrashed: "crashed",
    WorkerKilled: "killed",
}

#: How many durations gather before they are sorted into histograms, which then takes about 0.1 ms.
FULL = 1024


def outcome_of(error: BaseException) -> str:
    """How a task ended that fails with an error of our own making."""
    return _OUTCOME_OF.get(type(error), "failed")


class Meter:
    """What is counted of one worker; or of several, see `add`.

    Attributes:
        runs, waits: seconds that tasks ran, and waited before; not in the histograms yet.
        run, wait: the histograms.
        errors: how many of those that ran did not succeed.
        unsuccessful: how many tasks ended, by outcome, all but those that succeeded.
        starts, restarts: workers started, and how many of them in place of another one.
        crashes, failed_starts: workers that died by themselves, or never were ready.
        lost: seconds that tasks had run when their worker ended.
        capacity: seconds that workers were there for tasks, times the tasks each may run at a time.
        sent, received: bytes to workers, and from them.
        exit_code: how the worker exited; 0 until it has.  It is not summed.
    """

    def __init__(self) -> None:
        self.runs: list[float] = []
        self.waits: list[float] = []
        self.run, self.wait = Recorder(), Recorder()
        self.unsuccessful: Counter[str] = Counter()
        self.errors = self.starts = self.restarts = self.crashes = self.failed_starts = 0
        self.lost = self.capacity = 0.0
        self.sent = self.received = 0
        self.exit_code = 0

    def digest(self) -> None:
        """Sort what has gathered into the histograms."""
        self.run.record_many(self.runs)
        self.wait.record_many(self.waits)
        self.runs.clear()  # the same lists stay: the worker's handle holds them
        self.waits.clear()

    @property
    def busy(self) -> float:
        """Seconds that tasks ran here, those that have not ended excepted."""
        return self.run.total + sum(self.runs) + self.lost

    @property
    def outcomes(self) -> dict[str, int]:
        """How many tasks ended, by outcome."""
        succeeded = self.run.count + len(self.runs) - self.errors
        return {outcome: self.unsuccessful[outcome] for outcome in OUTCOMES} | {"succeeded": succeeded}

    def add(self, other: Meter) -> None:
        """Add all that another one has counted."""
        other.digest()
        self.run.add(other.run)
        self.wait.add(other.wait)
        self.unsuccessful.update(other.unsuccessful)
        self.errors += other.errors
        self.starts += other.starts
        self.restarts += other.restarts
        self.crashes += other.crashes
        self.failed_starts += other.failed_starts
        self.lost += other.lost
        self.capacity += other.capacity
        self.sent += other.sent
        self.received += other.received


class Meters:
    """The meters of one dispatcher.

    Attributes:
        past: what the workers that are gone have counted, and the tasks that ended without one.
    """

    def __init__(self) -> None:
        self.past = Meter()
        # A lease keeps its worker's meter: it is asked for when the worker is gone, too.
        self._living: WeakValueDictionary[int, Meter] = WeakValueDictionary()
        self._vacant = 0

    def of(self, number: int) -> Meter:
        """The meter of the worker with this number."""
        meter = self._living.get(number)
        if meter is None:
            meter = self._living[number] = Meter()
        return meter

    def worker_starts(self, meter: Meter, *, replaces: bool) -> None:
        """A worker is started; ``replaces`` says whether in place of one that retires."""
        # A lease's worker that could not start, and is tried again, was added to the past.
        meter.starts, meter.restarts, meter.failed_starts = 1, 0, 0
        meter.sent = meter.received = 0
        if replaces or self._vacant:
            meter.restarts = 1
            self._vacant -= not replaces

    def worker_ended(self, meter: Meter, *, missed: bool) -> None:
        """A worker is gone; ``missed`` says whether the next one takes its place."""
        self.past.add(meter)
        self._vacant += missed

    def total(self, living: Iterable[Meter]) -> Meter:
        """The sum of all that was counted, given the meters of the workers that are there."""
        total = Meter()
        for meter in (self.past, *living):
            total.add(meter)
        return total
