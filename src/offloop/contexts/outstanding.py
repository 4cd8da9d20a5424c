"""What a worker on a cluster was sent and has not ended, between its link and the link's owner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

from offloop.link import Exit, ItemSink, LinkOwner, Sendable

#: How fast a measured difference of two clocks loses its worth, for each newer measurement: clocks drift.
AGEING = 1.01


class Outstanding:
    """Passes on what a link reports, in this clock's times.  Implements `offloop.link.LinkOwner`.

    Args:
        owner: who is told.
    """

    def __init__(self, owner: LinkOwner) -> None:
        #: Tasks that were sent and have not ended, by id, and when they were sent.
        self.tasks: dict[int, float] = {}
        self._unpushed: set[int] = set()  # those that have not left this process
        self._ahead = 0.0  # of that machine's clock
        self._doubt = float("inf")  # seconds by which that may be wrong
        self._owner = owner

    # -- sending ----------------------------------------------------------------

    def sent(self, items: Sequence[Sendable], failed: Sequence[tuple[Sendable, BaseException]]) -> None:
        """These tasks are to go with the next call, but for those that failed."""
        bad = {item.id for item, _ in failed}
        now = monotonic()
        for item in items:
            if item.id not in bad:
                self.tasks[item.id] = now
                self._unpushed.add(item.id)

    def were_pushed(self) -> None:
        """All tasks so far are on their way."""
        self._unpushed.clear()

    def maybe_started(self) -> list[int]:
        """Those of which nobody here can say that they did not start: a task must not run twice."""
        return [id for id in self.tasks if id not in self._unpushed]

    # -- two clocks -------------------------------------------------------------

    def compare(self, theirs: float, asked: float, answered: float, held: float) -> None:
        """Compare the clocks.

        Args:
            theirs: what the other clock showed when the answer was given, in seconds.
            asked: when it was asked for, by this one.
            answered: when the answer came.
            held: seconds between the question's arrival and the answer.
        """
        travelling = max(0.0, answered - asked - held)
        self._doubt *= AGEING
        if travelling <= self._doubt:
            self._doubt = travelling
            self._ahead = theirs - (answered - travelling / 2)

    def here(self, time: float) -> float:
        """A time of that machine's clock by this one's."""
        return time - self._ahead

    def _times(self, id: int, start: float, end: float) -> tuple[float, float]:
        """When a task ran, by this clock, as far as it is possible; it has ended now."""
        sent = self.tasks.pop(id, None)
        here = max(self.here(start), sent) if sent is not None else self.here(start)
        return here, here + max(0.0, end - start)

    # -- what the link reports --------------------------------------------------

    def link_result(self, id: int, value: Any, start: float, end: float) -> None:
        """A task returned."""
        self._owner.link_result(id, value, *self._times(id, start, end))

    def link_loaded(self, id: int, seconds: float) -> None:
        """A result was large."""
        self._owner.link_loaded(id, seconds)

    def link_failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """A task failed."""
        self._owner.link_failure(id, error, *self._times(id, start, end))

    def link_unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """A task could not be loaded."""
        self._owner.link_unloadable(id, error, *self._times(id, start, end))

    def link_cancelled(self, id: int, start: float, end: float) -> None:
        """A running task was cancelled."""
        self._owner.link_cancelled(id, *self._times(id, start, end))

    def link_returned(self, ids: Iterable[int]) -> None:
        """Tasks that will not run there."""
        returned = list(ids)
        for id in returned:
            self.tasks.pop(id, None)
        self._owner.link_returned(returned)

    def link_ready(self) -> None:
        """The worker takes tasks."""
        self._owner.link_ready()

    def link_delivered(self) -> None:
        """That was all for now."""
        self._owner.link_delivered()

    def link_overgrown(self, size: int, fresh: int) -> None:
        """The worker keeps too much memory."""
        self._owner.link_overgrown(size, fresh)

    def link_said(self, kind: int, id: int, value: Any) -> None:
        """A running task said something."""
        self._owner.link_said(kind, id, value)

    def link_stream(self, id: int) -> ItemSink | None:
        """Where the items of a stream go."""
        return self._owner.link_stream(id)

    def link_held(self) -> bool:
        """Whether its environment is not to be lost."""
        return self._owner.link_held()

    def link_exited(self, exit: Exit) -> None:
        """The worker is gone."""
        self.tasks.clear()
        self._owner.link_exited(exit)
