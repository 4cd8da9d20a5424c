"""A loop whose clock stands still, and workers without processes behind the real handles and dispatcher."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from offloop import dispatcher as dispatcher_module, handle as handle_module, idletimer
from offloop.child.turns import Turns
from offloop.errors import SerializationError, WorkerStartError
from offloop.execution import Execution
from offloop.link import Context, Exit, Link, LinkOwner, S, Sendable


class ManualLoop(asyncio.SelectorEventLoop):
    """Time passes when it is told to; failures of callbacks are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(self._keep)
        self._modules = (dispatcher_module, handle_module, idletimer)
        self._clocks = [module.monotonic for module in self._modules]
        for module in self._modules:
            module.monotonic = self.time  # type: ignore[assignment]

    def _keep(self, _: object, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), RuntimeWarning):  # that a worker was given up
            self.errors.append(context)

    def time(self) -> float:
        return self.now

    def do(self, what: Callable[[], Any]) -> Any:
        """Call something on the loop, in a turn of its own; whatever that leads to is left for later."""
        found: list[Any] = []
        self.call_soon(lambda: found.append(what()))
        self.turn()
        assert not self.errors, self.errors
        return found[0]

    def turn(self) -> None:
        """One turn: what is ready, and timers that are due."""
        self.call_soon(self.stop)
        self.run_forever()
        assert not self.errors, self.errors

    def settle(self) -> None:
        """Turns until nothing is ready."""
        for _ in range(100):
            self.turn()
            if not self._ready:  # type: ignore[attr-defined]
                return
        raise AssertionError("it never comes to rest")

    def close(self) -> None:
        for module, clock in zip(self._modules, self._clocks, strict=True):
            module.monotonic = clock  # type: ignore[assignment]
        super().close()


class Job:
    """A task, and what became of it: each attempt, and how that ended."""

    def __init__(self, ending: str) -> None:
        self.ending = ending
        self.runs: list[str] = []
        self.was_cancelled = False

    def run(self, environment: Any) -> None:
        """Nobody calls it: a fake worker only says that it ran."""


class FakeLink(Link):
    """One worker: what it is sent lies there until the test has it go on, and so does what it says."""

    def __init__(self, loop: ManualLoop, owner: LinkOwner, number: int) -> None:
        self._loop, self._owner = loop, owner
        self.pid = number
        self.turns = Turns()
        self.inbox: deque[tuple[int, Execution[Any], int] | None] = deque()  # None: stop
        self.commands: deque[tuple[bool, list[tuple[int, int]]]] = deque()
        self.said: deque[Callable[[], None]] = deque()
        self.returned: deque[list[int]] = deque()
        self.now: tuple[int, Execution[Any], float] | None = None  # what runs: place, task, since when
        self.sent = 0
        self.is_up = self.is_bound = self.is_gone = False
        self.is_alive = True
        self.code = -9

    def start(self) -> None:
        """It is started when the test says so."""

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        failed: list[tuple[S, BaseException]] = []
        for item in items:
            execution: Any = item
            assert execution.reason is None, "what was to be cancelled is not sent once more"
            if execution.task.ending == "unpicklable":
                failed.append((item, SerializationError("it stays here")))
            else:
                self.sent = item.place = self.sent + 1
                self.inbox.append((item.place, execution, execution.attempt))
        return failed

    def cancel(self, items: Sequence[Sendable]) -> None:
        self.commands.append((True, [(item.place, item.id) for item in items]))

    def recall(self, items: Sequence[Sendable]) -> None:
        self.commands.append((False, [(item.place, item.id) for item in items]))

    def stop(self) -> None:
        self.inbox.append(None)

    def kill(self) -> None:
        self.is_alive = False

    def running(self) -> list[tuple[int, float]]:
        return [(self.now[1].id, self.now[2])] if self.now is not None and not self.is_gone else []

    def tell(self, kind: int, id: int, value: Any = None) -> None:
        """No task says anything here."""

    def poll(self, until: float = inf) -> None:
        """As out of the journal: what is told now comes once more."""
        if self.said and self.said[0] != self._owner.link_ready:
            for say in list(self.said):
                say()

    # -- what the worker does ----------------------------------------------------

    def set_up(self) -> None:
        self.is_up = True
        self.said.append(self._owner.link_ready)

    @property
    def may_finish(self) -> bool:
        """Whether what runs, if anything, ends before its process does."""
        return self.is_alive and self.now is not None and self.now[1].task.ending != "hang"  # type: ignore[attr-defined]

    @property
    def may_begin(self) -> bool:
        return self.is_alive and self.is_up and bool(self.inbox) and self.now is None

    def begin(self) -> None:
        """Go on to the next task, or take leave."""
        record = self.inbox.popleft()
        if record is None:
            self.is_alive, self.code = False, 0
        elif self.turns.begin():
            place, execution, attempt = record
            job: Any = execution.task
            assert len(job.runs) == attempt - 1, "it ran before, and was not lost"
            assert not job.runs or job.runs[-1] == "lost"
            job.runs.append("running")
            self.now = place, execution, self._loop.now
            self.turns.interruptible = place

    def finish(self) -> None:
        """The task ends: as it would by itself, or because its cancellation was requested."""
        assert self.now is not None
        place, execution, start = self.now
        job: Any = execution.task
        self.now, self.turns.interruptible = None, 0
        id, end = execution.id, self._loop.now
        if place in self.turns.cancelled:
            job.runs[-1] = "cancelled"
            self.said.append(lambda: self._owner.link_cancelled(id, start, end))
        elif job.ending == "raise":
            job.runs[-1] = "raised"
            self.said.append(lambda: self._owner.link_failure(id, ValueError(id), start, end))
        else:
            job.runs[-1] = "returned"
            self.said.append(lambda: self._owner.link_result(id, id, start, end))
        self.said.append(self._owner.link_delivered)

    def obey(self) -> None:
        """Serve one recall or cancellation, as the control thread does."""
        is_cancel, places = self.commands.popleft()
        taken = self.turns.take_back(places)
        if taken:
            self.returned.append(taken)
        if is_cancel:
            for place, _ in places:
                self.turns.request_cancel(place)

    def go_on(self) -> bool:
        """Let one thing happen that is under way; False if nothing is."""
        if not self.is_alive:
            self._loop.do(self.notice_death)
        elif self.said:
            self._loop.do(self.hear)
        elif self.returned:
            self._loop.do(self.hear_returned)
        elif self.commands:
            self.obey()
        elif not self.is_up:
            self.set_up()
        elif self.may_begin:
            self.begin()
        elif self.may_finish:
            self.finish()
        else:
            return False
        return True

    # -- what arrives ------------------------------------------------------------

    def hear(self) -> None:
        self.said.popleft()()

    def hear_returned(self) -> None:
        self._owner.link_returned(self.returned.popleft())

    def notice_death(self) -> None:
        """The process is gone: first comes what it had said, then its end."""
        while self.said:
            self.hear()
        started, ran = [], 0.0
        if self.now is not None:
            started, ran = [self.now[1].id], self._loop.now - self.now[2]
            job: Any = self.now[1].task
            job.runs[-1] = "lost"
        self.is_gone = True
        problem = None if self.is_up else WorkerStartError("it died as it started")
        self._owner.link_exited(Exit(self.code, self.code == 0, started, problem, pid=self.pid, ran=ran))


class FakeContext(Context):
    """Where fake workers live."""

    def __init__(self, loop: ManualLoop, links: list[FakeLink]) -> None:
        self._loop, self._links = loop, links

    def connect(self, number: int, owner: LinkOwner) -> FakeLink:
        self._links.append(FakeLink(self._loop, owner, number))
        return self._links[-1]


class FakeMaker:
    """Makes the context of a dispatcher, and shows its workers."""

    kind = "fake"

    def __init__(self, loop: ManualLoop) -> None:
        self._loop = loop
        self.all: list[FakeLink] = []

    def context(self) -> FakeContext:
        return FakeContext(self._loop, self.all)

    @property
    def links(self) -> list[FakeLink]:
        """Those that are not gone."""
        self.all[:] = [link for link in self.all if not link.is_gone]
        return self.all
