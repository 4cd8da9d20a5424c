"""Workers in threads of this process: nothing is pickled, objects are shared."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from offloop.child.bootstrap import make_environment, run_bootstrap
from offloop.child.interrupting import interrupt_by_exception
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.contexts.doorbell import Doorbell, Ring
from offloop.contexts.marks import mark_records
from offloop.contexts.sharing import as_seen_by_parent
from offloop.contexts.thread_port import DIED, ThreadPort
from offloop.contexts.whereabouts import where_it_is
from offloop.environment import Environment
from offloop.errors import WorkerStartError
from offloop.link import Context, Exit, Link, LinkOwner, S, Sendable, not_started
from offloop.wire.frames import (
    BYE,
    CANCELLED,
    FAILED,
    ITEM,
    LIVE,
    READY,
    REFUSED,
    RESULT,
    RUN,
    STACK,
    STOP,
    Record,
)
from offloop.worker import WorkerFactory

#: Seconds of delivering after which other callbacks of the event loop get their turn.
BUDGET = 0.001

_STOP: Record = (STOP, 0, 0, 0, 0.0, 0.0, b"")


@dataclass(frozen=True, kw_only=True)
class ThreadWorkerFactory(WorkerFactory):
    """Makes workers that live in threads of this process.

    Args:
        environment: class or zero-argument factory of the worker's `Environment`.
        bootstrap: run before the first task: a callable given the environment
            (sync or async), or a path to a Python file.
        concurrency: how many async tasks of one worker may overlap.
    """

    environment: Callable[[], Environment] | None = None
    bootstrap: Any = None
    concurrency: int = 1

    def __post_init__(self) -> None:
        self.check_common(self.environment, self.bootstrap, self.concurrency)

    def context(self) -> Context:
        """The context for one pool."""
        return ThreadContext(self)


class ThreadContext(Context):
    """The threads of one pool."""

    def __init__(self, factory: ThreadWorkerFactory) -> None:
        self.slots = factory.concurrency
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._doorbell = Doorbell(self._loop)

    def connect(self, number: int, owner: LinkOwner) -> ThreadLink:
        """A link to a new worker thread."""
        return ThreadLink(self._loop, self._doorbell.ring, self._factory, number, owner)

    def abandon(self) -> None:
        """Listen to no thread any more: those that were given up may go on."""
        self._doorbell.close()


class ThreadLink(Link):
    """The parent's end of one worker thread."""

    runs_beside = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ring: Ring,
        factory: ThreadWorkerFactory,
        number: int,
        owner: LinkOwner,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._number = number
        self._owner = owner
        self._turns = Turns()
        self._port = ThreadPort(ring, self._deliver, factory.concurrency + 1)
        self._sent = 0
        self._ahead: deque[int] = deque()  # ids by place, the last one `_sent`; at most one that was begun
        self._latest = 0  # the id of the task whose end was heard of last
        self._problem: BaseException | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, name=f"offloop-worker-{number}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        mark_records()
        try:
            self._thread.start()
        except RuntimeError as error:  # can't start new thread
            self._problem = WorkerStartError(f"a worker thread could not start: {error}")
            self._loop.call_soon(self._finish, None, False)

    def _run(self) -> None:
        port, factory = self._port, self._factory
        interrupt_by_exception(self._turns, threading.get_ident(), is_seen=True)
        try:
            environment = make_environment(factory.environment)
            run_bootstrap(factory.bootstrap, environment)
        except BaseException as error:
            port.say(REFUSED, as_seen_by_parent(error))
            return
        runner = Runner(port, self._number, environment, self._turns, factory.concurrency)
        try:
            if runner.serve():
                runner.close()
            else:
                environment.close()  # given up by the parent while it ran a task
        except BaseException:  # of a callback between two tasks: nobody watches a thread's end
            port.say(DIED)
            raise

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Hand tasks over."""
        records: list[Record] = []
        while self._sent - len(self._ahead) + 1 < self._turns.place:
            self._ahead.popleft()
        for item in items:
            self._sent += 1
            self._ahead.append(item.id)
            item.place = self._sent
            content: Any = item.task, item.context
            records.append((RUN, item.flags, 0, item.id, item.attempt, item.cost, content))
        self._port.put(records)
        return []

    def cancel(self, items: Sequence[Sendable]) -> None:
        """Cancel tasks; a synchronous one that runs is interrupted in Python code, not in a blocking call."""
        self.recall(items)
        for item in items:
            self._turns.request_cancel(item.place)

    def recall(self, items: Sequence[Sendable]) -> None:
        """Take tasks back."""
        returned = self._turns.take_back([(item.place, item.id) for item in items])
        if returned:
            self._loop.call_soon(self._owner.link_returned, returned)

    def stop(self) -> None:
        """Let the worker finish."""
        self._port.put([_STOP])

    def kill(self) -> None:
        """Give the thread up: it can't be ended, and is left to run out."""
        if self._over:
            return
        before = self.running()
        self._port.put(None)
        self._give_up()
        after = self.running()
        # One that has ended may be noted as running for a moment more.
        is_busy = any(slot in after and slot[0] != self._latest for slot in before)
        if is_busy and self._thread.is_alive():
            text = (
                f"a thread can't be killed: {self._thread.name} is abandoned, "
                "and its task goes on until it returns"
            )
            tell = partial(warnings.warn_explicit, text, RuntimeWarning, *where_it_is(self._thread))
            if self._loop.is_running():  # later: where warnings are errors, this raises
                self._loop.call_soon(tell)
            else:
                tell()

    def _give_up(self) -> None:
        """Have the worker begin nothing more, take what it has ended, and report its end."""
        last = self._turns.close()
        # The one begun last may not be noted as running yet; what ends from here on counts as running.
        begun = [id for id, _ in self.running()]
        at = last - (self._sent - len(self._ahead)) - 1
        if at >= 0:
            begun.append(self._ahead[at])
        self._deliver(inf)
        for live in list(self._turns.lives.values()):
            live.close()
        self._finish(-9, False, begun)

    def tell(self, kind: int, id: int, value: Any = None) -> None:
        """Say something to a running task."""
        if kind == STACK:
            self._loop.call_soon(self._owner.link_said, STACK, id, self._turns.stack_of(id))
            return
        live = self._turns.lives.get(id)
        if live is not None:
            live.hear(kind, value)

    def abandon(self) -> None:
        """Give the thread up, and tell nobody: the event loop no longer runs."""
        self._over = True
        self._turns.close()
        self._port.put(None)

    def running(self) -> list[tuple[int, float]]:
        """What runs now."""
        return [slot for slot in self._port.slots if slot[0]]

    def is_through(self) -> bool:
        """Nothing travels."""
        return True

    def poll(self, until: float = inf) -> None:
        """Take what has come."""
        self._deliver(until)

    def _deliver(self, until: float | None = None) -> None:
        """Take what the thread reported, for `BUDGET` seconds or until then."""
        self._port.woken = False
        outbox = self._port.outbox
        until = monotonic() + BUDGET if until is None else until
        while outbox and not self._over:
            if len(outbox) & 15 == 15 and monotonic() > until:
                self._port.woken = True
                self._loop.call_soon(self._deliver)
                break
            kind, id, value, start, end = outbox.popleft()
            if kind == RESULT:
                self._latest = id
                self._owner.link_result(id, value, start, end)
            elif kind == FAILED:
                self._latest = id
                self._owner.link_failure(id, value, start, end)
            elif kind == CANCELLED:
                self._latest = id
                self._owner.link_cancelled(id, start, end)
            elif kind == ITEM:
                self._hand_on(id, value)
            elif kind in LIVE:
                self._owner.link_said(kind, id, value)
            elif kind == READY:
                self._owner.link_ready()
            elif kind == REFUSED:
                self._problem = not_started(value)
                self._finish(1, False)
            elif kind == BYE:
                self._finish(0, True)
            elif kind == DIED:
                self._finish(1, False)
        self._owner.link_delivered()

    def _hand_on(self, id: int, item: Any) -> None:
        sink = self._owner.link_stream(id)
        if sink is not None:
            sink.put(item, 0)

    def _finish(self, code: int | None, clean: bool, begun: Sequence[int] | None = None) -> None:
        if self._over:
            return
        self._over = True
        running = self.running()
        ran = sum(monotonic() - start for _, start in running)
        started = [id for id, _ in running] if begun is None else begun
        self._owner.link_exited(Exit(code, clean, started, self._problem, ran=ran))
