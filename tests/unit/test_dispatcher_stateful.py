"""The real dispatcher and its handles, in every order of events: every execution ends once, and rightly."""

from __future__ import annotations

import asyncio
from typing import Any

from fakelink import FakeLink, FakeMaker, Job, ManualLoop
from hypothesis import note, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from profiles import CHOSEN, lift_time_bound

from offloop.dispatcher import BROKEN, KILLED, OPEN, Dispatcher
from offloop.errors import (
    SerializationError,
    TaskTimeout,
    WorkerCrashed,
    WorkerKilled,
    WorkerStartError,
)
from offloop.execution import Execution
from offloop.policy import Policy
from offloop.scheduling.state import Limits

PICKS = st.integers(0, 1 << 16)
ENDINGS = st.sampled_from(["return", "return", "return", "raise", "unpicklable"])
GRACE = 1.0


class Owner:
    """Whom the dispatcher works for."""


def may(predicate: Any) -> Any:
    """The rule applies only while ``predicate`` holds for some worker."""
    return precondition(lambda self: any(predicate(link) for link in self.maker.links))


class DispatcherMachine(RuleBasedStateMachine):
    """Does everything to a dispatcher and its workers, one event at a time."""

    @initialize(
        workers=st.integers(1, 3),
        heal=st.sampled_from([True, True, False]),
        warm=st.sampled_from([True, True, False]),
    )
    def open(self, workers: int, heal: bool, warm: bool) -> None:
        note(f"{workers=} {heal=}")
        self.loop = ManualLoop()
        self.maker = FakeMaker(self.loop)
        self.owner = Owner()
        limits = Limits(workers if heal else 1, idle_timeout=5.0 if heal else float("inf"))
        policy = Policy(limits, cancel_grace=GRACE, heal=heal)
        self.dispatcher = Dispatcher(self.maker, policy, self.owner)
        self.executions: list[Execution[Any]] = []
        self.ended: dict[int, str] = {}
        self.is_stillborn = False
        if warm:  # workers that have started, and tasks known to be short
            self.enqueue(["return"] * workers, 0, None, 0, None)
            while self.open_executions():
                self._step()

    def pick(self, number: int, predicate: Any) -> FakeLink:
        fitting = [link for link in self.maker.links if predicate(link)]
        return fitting[number % len(fitting)]

    # -- users -------------------------------------------------------------------

    @precondition(lambda self: self.dispatcher.status == OPEN)
    @rule(
        endings=st.lists(ENDINGS, min_size=1, max_size=5),
        retries=st.sampled_from([0, 0, 1, 2]),
        timeout=st.sampled_from([None, None, 0.5]),
        priority=st.sampled_from([0, 0, 1]),
        key=st.sampled_from([None, None, "a"]),
    )
    def enqueue(
        self, endings: list[str], retries: int, timeout: float | None, priority: int, key: str | None
    ) -> None:
        options = {"retries": retries, "timeout": timeout, "priority": priority, "key": key}
        for ending in endings:
            job = Job(ending)
            self.executions.append(self.loop.do(lambda job=job: self.dispatcher.enqueue(job, options)))
            self.executions[-1].add_done_callback(self._has_ended)

    def _has_ended(self, execution: asyncio.Future[Any]) -> None:
        assert isinstance(execution, Execution)
        assert execution.id not in self.ended
        self.ended[execution.id] = "cancelled" if execution.cancelled() else repr(execution.exception())

    @precondition(lambda self: self.open_executions())
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        execution = self.open_executions()[pick % len(self.open_executions())]
        job: Any = execution.task
        job.was_cancelled = True
        self.loop.do(execution.cancel)

    def open_executions(self) -> list[Execution[Any]]:
        return [execution for execution in self.executions if not execution.done()]

    @precondition(lambda self: self.dispatcher.loop is not None)
    @rule(how=st.sampled_from([*(["run on"] * 60), "close", "cancel pending", "cancel all", "kill"]))
    def end(self, how: str) -> None:
        if how in ("cancel pending", "cancel all"):
            for execution in self.open_executions():
                execution.task.was_cancelled = True  # type: ignore[attr-defined]
        if how == "kill":
            self.loop.do(self.dispatcher.kill)
            assert not self.open_executions(), "they end at once"
        elif how == "cancel all":
            self.loop.do(lambda: self.dispatcher.cancel_all(running=True))
        elif how != "run on":
            self.loop.do(lambda: self.dispatcher.close(cancel_pending=how != "close"))

    # -- time --------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.0005, 0.003, 0.01, 0.6, 1.1, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        self.loop.turn()

    @rule()
    def settle(self) -> None:
        self.loop.settle()

    # -- workers -----------------------------------------------------------------

    @may(lambda link: not link.is_up and link.is_alive)
    @rule(pick=PICKS)
    def set_up(self, pick: int) -> None:
        self.pick(pick, lambda link: not link.is_up and link.is_alive).set_up()

    @may(lambda link: link.may_begin)
    @rule(pick=PICKS)
    def begin(self, pick: int) -> None:
        self.pick(pick, lambda link: link.may_begin).begin()

    @may(lambda link: link.may_finish)
    @rule(pick=PICKS, seconds=st.sampled_from([0.0, 1e-5, 0.002, 0.1]))
    def finish(self, pick: int, seconds: float) -> None:
        self.loop.now += seconds
        self.pick(pick, lambda link: link.may_finish).finish()

    @may(lambda link: link.commands and link.is_alive)
    @rule(pick=PICKS)
    def obey(self, pick: int) -> None:
        self.pick(pick, lambda link: link.commands and link.is_alive).obey()

    @may(lambda link: link.is_alive and link.is_up)
    @rule(pick=PICKS, is_busy=st.booleans(), is_seen=st.booleans())
    def die(self, pick: int, is_busy: bool, is_seen: bool) -> None:
        """A worker dies between two tasks, or in the midst of one."""
        link = self.pick(pick, lambda link: link.is_alive and link.is_up)
        if is_busy and link.may_begin and link.inbox[0] is not None:
            link.begin()
        link.is_alive = False
        if is_seen:
            self._notice(link)

    @may(lambda link: link.is_alive and not link.is_up)
    @rule(pick=PICKS, how=st.sampled_from(["live on", "live on", "die"]))
    def be_stillborn(self, pick: int, how: str) -> None:
        link = self.pick(pick, lambda link: link.is_alive and not link.is_up)
        link.is_alive = how != "die"

    @precondition(lambda self: self.dispatcher.status == OPEN)
    @rule(timeout=st.sampled_from([0.001, 0.5]), retries=st.sampled_from([0, 1]))
    def enqueue_endless(self, timeout: float, retries: int) -> None:
        """A task that nothing but its worker's end can end."""
        options = {"retries": retries, "timeout": timeout, "priority": 0, "key": None}
        job = Job("hang")
        self.executions.append(self.loop.do(lambda: self.dispatcher.enqueue(job, options)))
        self.executions[-1].add_done_callback(self._has_ended)

    @precondition(lambda self: self.dispatcher.status == OPEN)
    @rule(count=st.integers(1, 6), retries=st.sampled_from([0, 0, 1]), steps=st.integers(0, 4))
    def fill_hands(self, count: int, retries: int, steps: int) -> None:
        """Tasks are sent, and something of it happens."""
        self.enqueue(["return"] * count, retries, None, 0, None)
        self.loop.settle()
        for _ in range(steps):
            self._step()

    @rule(steps=st.integers(1, 12))
    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self._step()

    # -- what arrives ------------------------------------------------------------

    @may(lambda link: link.said)
    @rule(pick=PICKS)
    def hear(self, pick: int) -> None:
        self.loop.do(self.pick(pick, lambda link: link.said).hear)

    @may(lambda link: link.returned)
    @rule(pick=PICKS)
    def hear_returned(self, pick: int) -> None:
        self.loop.do(self.pick(pick, lambda link: link.returned).hear_returned)

    @may(lambda link: not link.is_alive)
    @rule(pick=PICKS)
    def notice_death(self, pick: int) -> None:
        self._notice(self.pick(pick, lambda link: not link.is_alive))

    def _notice(self, link: FakeLink) -> None:
        self.is_stillborn |= not link.is_up
        self.loop.do(link.notice_death)

    # -- what always holds -------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "loop"):
            return
        assert self.dispatcher.outstanding == len(self.open_executions())
        for execution in self.executions:
            job: Any = execution.task
            assert len(job.runs) <= execution.retries + 1
            assert len(job.runs) <= execution.attempt
            if execution.done():
                self._ended_rightly(execution, job)

    def _ended_rightly(self, execution: Execution[Any], job: Job) -> None:
        last = job.runs[-1] if job.runs else "never ran"
        status = self.dispatcher.status
        if execution.cancelled():
            assert job.was_cancelled
            return
        error = execution.exception()
        if error is None:
            assert last == "returned"
        elif isinstance(error, ValueError):
            assert last == "raised"
        elif isinstance(error, SerializationError):
            assert job.ending == "unpicklable"
        elif isinstance(error, TaskTimeout):
            assert execution.timeout is not None
            assert last in ("lost", "cancelled")
        elif isinstance(error, WorkerKilled):
            assert status == KILLED
        elif isinstance(error, WorkerStartError):
            assert self.is_stillborn
            assert last in ("never ran", "lost")
        else:
            assert isinstance(error, WorkerCrashed)
            is_single = not self.dispatcher.policy.heal
            assert last == "lost" or (is_single and status in (BROKEN, KILLED) and last == "never ran")

    # -- letting it run dry --------------------------------------------------------

    def _step(self) -> bool:
        """Let one thing happen that is under way; False if nothing is."""
        for link in self.maker.links:
            if not link.is_alive:
                self._notice(link)
            elif not link.go_on():
                continue
            return True
        self.loop.settle()
        return False

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self._run_dry()
        finally:
            self.loop.close()

    def _run_dry(self) -> None:
        idle = 0
        for _ in range(20_000):
            if self._step():
                idle = 0
            elif self.open_executions():
                idle += 1
                self.loop.now += 0.003 if idle < 9 else 0.4  # ticks of the dispatcher; timeouts and graces
            else:
                break
        self.all_is_well()
        assert not self.open_executions(), "every execution ends"
        if self.dispatcher.loop is None:
            return
        self.loop.do(lambda: self.dispatcher.close(cancel_pending=False))
        for _ in range(1_000):
            if not self._step() and self.dispatcher.ended_for_good:
                break
        assert self.dispatcher.ended_for_good
        assert not self.dispatcher.handles
        self.loop.settle()
        assert set(self.ended) == {execution.id for execution in self.executions}


class TestDispatcherInEveryOrder(DispatcherMachine.TestCase):
    settings = CHOSEN

    def setUp(self) -> None:
        lift_time_bound()
