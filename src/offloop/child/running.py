"""What a running task is told about itself, and can do: the `TaskContext` of a worker."""

from __future__ import annotations

from offloop.child.live import LiveTask
from offloop.errors import ChannelClosed, TaskCancelled

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from offloop.child.channel import TaskChannel
    from offloop.child.keeping import AsIs, Pickled
    from offloop.child.runner import Runner
    from offloop.environment import Environment
    from offloop.wire.frames import Record


class RunningTask:
    """The `TaskContext` of the task that runs now."""

    def __init__(self, runner: Runner, record: Record, place: int) -> None:
        self.environment: Environment = runner.environment
        self.worker_id = runner.number
        self.task_id = record[3]
        self.attempt = int(record[4])
        self._runner = runner
        self._record = record
        self._turns = runner.turns
        self._place = place

    @property
    def cancelled(self) -> bool:
        """Whether this task's cancellation was requested."""
        return self._place in self._turns.cancelled

    def raise_if_cancelled(self) -> None:
        """Raise `TaskCancelled` if cancellation was requested."""
        if self.cancelled:
            raise TaskCancelled("the task was cancelled")

    @property
    def cancellations(self) -> set[int]:
        """The places of tasks to be cancelled: empty as a rule, so that a look costs next to nothing."""
        return self._turns.cancelled

    def keeper(self) -> AsIs | Pickled:
        """What keeps the outcomes of a chunk's items until that of the chunk is reported."""
        return self._runner.port.keeper()

    def report(self, done: Any, total: Any = None, message: Any = None) -> None:
        """Report how far the task has come."""
        live = self._live()
        if live is not None:
            live.report(done, total, message)

    @property
    def channel(self) -> TaskChannel:
        """The task's end of its channel."""
        live = self._live()
        if live is None:
            raise ChannelClosed("the task has ended, and its channel with it")
        return live.channel

    def _live(self) -> LiveTask | None:
        """Its talk with the parent; None once the task has ended (a thread of it may go on)."""
        turns, place = self._turns, self._place
        if self._runner.record is not self._record and place not in turns.awaiting:
            return None
        return LiveTask.of(self._runner.port.voice, turns, self.task_id, place)
