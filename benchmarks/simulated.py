"""A cluster in memory: latency, failures and running times as they are asked for, and no process at all.

It stands where an engine stands, and speaks what a `FarWorker` speaks.  So
everything on the program's side is real, for as many workers as are wanted:
the pool, its scheduler, pickling, calls and silence.  Its tasks are not run:
each takes as long as the model says, and returns None.
"""

from __future__ import annotations

import asyncio
import pickle
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from offloop.child.turns import Turns
from offloop.contexts.cluster import ClusterOptions
from offloop.contexts.engine import Engine, Seat, Size
from offloop.contexts.messages import HOLD, End, Order, Push, Reply, hello, pack, unpack
from offloop.wire.frames import (
    BYE,
    CANCEL,
    CANCELLED,
    READY,
    RECALL,
    RESULT,
    RETURNED,
    STOP,
    TASKS,
    FrameDecoder,
    frame,
    pack_numbers,
    unpack_numbers,
)

_LIMIT = 1 << 30


@dataclass
class Cluster:
    """The model, and what came of it.

    Attributes:
        latency: seconds that a call travels, each way.
        jitter: up to so many more, at random: calls overtake each other.
        seconds: gives the running time of the next task.
        start: seconds until a worker takes tasks.
        refused: the part of actors, at random, that can't be made.
        seed: of everything random.
        workers: all that were made.
        calls: how many calls there were.
        ran: how many tasks were run.
    """

    latency: float = 0.0
    jitter: float = 0.0
    seconds: Callable[[], float] = float
    start: float = 0.0
    refused: float = 0.0
    seed: int = 1
    workers: list[Worker] = field(default_factory=list)
    calls: int = 0
    ran: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.travelling: deque[tuple[float, Callable[..., object], tuple[Any, ...]]] = deque()

    def factory(self, **options: Any) -> Factory:
        """A factory of workers on it."""
        return Factory(cluster=self, **options)

    def travel(self, arrive: Callable[..., object], *args: Any) -> None:
        """Have something arrive at the other end."""
        if self.jitter:
            delay = self.latency + self.random.random() * self.jitter
            asyncio.get_running_loop().call_later(delay, arrive, *args)
            return
        self.travelling.append((monotonic() + self.latency, arrive, args))
        if len(self.travelling) == 1:
            asyncio.get_running_loop().call_later(self.latency, self._arrive)

    def _arrive(self) -> None:
        """One timer for all of it: a timer for each call would cost more than what is measured."""
        while self.travelling and self.travelling[0][0] <= monotonic():
            _, arrive, args = self.travelling[0]
            arrive(*args)
            self.travelling.popleft()
        if self.travelling:
            until = self.travelling[0][0]
            asyncio.get_running_loop().call_later(max(0.0, until - monotonic()), self._arrive)


@dataclass(frozen=True, kw_only=True)
class Factory(ClusterOptions):
    """Makes workers there."""

    cluster: Cluster

    def engine(self) -> Engine:
        """The cluster itself."""
        return SimulatedEngine(self.cluster)


class SimulatedEngine(Engine):
    """Makes actors.

    Args:
        cluster: the model.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def place(self, order: bytes) -> Future[Seat]:
        """An actor, or a refusal."""
        placed: Future[Seat] = Future()
        if self._cluster.random.random() < self._cluster.refused:
            self._cluster.travel(placed.set_exception, RuntimeError("no place for an actor"))
        else:
            worker = Worker(self._cluster, Order(*unpack(order)))
            self._cluster.workers.append(worker)
            self._cluster.travel(placed.set_result, worker)
        return placed

    def size(self) -> Future[Size]:
        """There is always room."""
        size: Future[Size] = Future()
        size.set_result(Size(len(self._cluster.workers), 1 << 20))
        return size

    def close(self) -> Future[None]:
        """Nothing is to be closed."""
        closed: Future[None] = Future()
        closed.set_result(None)
        return closed


class Worker(Seat):
    """An actor and its worker, as far as they can be seen from the program.

    Args:
        cluster: the model.
        order: how it was asked for.
    """

    def __init__(self, cluster: Cluster, order: Order) -> None:
        self.where = f"machine{len(cluster.workers)}"
        self.is_dead = self.is_silent = self.is_over = False
        self._cluster = cluster
        self._order = order
        self._turns = Turns()
        self._queue: deque[int] = deque()  # ids; 0: stop
        self._running: tuple[int, float] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pushed = self._answers = 0
        self._early: dict[int, Push] = {}
        self._last = b""
        self._pull: Future[Any] | None = None
        self._hold: asyncio.TimerHandle | None = None
        self._asked: set[Future[Any]] = set()
        self._data: list[bytes] = []
        self._control: list[bytes] = []
        self._frames, self._control_frames = FrameDecoder(_LIMIT), FrameDecoder(_LIMIT)
        self._exited: End | None = None
        self._methods: dict[str, Callable[..., None]] = {
            "open": self._open,
            "push": self._push,
            "pull": self._take_pull,
            "signal": self._take_signal,
            "stack": self._stack,
        }

    @property
    def is_running_task(self) -> bool:
        """Whether a task runs there now."""
        return self._running is not None

    # -- what may happen to it --------------------------------------------------

    def die(self) -> None:
        """Its machine is gone, and the engine knows."""
        self.is_dead = True
        self._stop()
        for answer in list(self._asked):
            self._fail(answer)

    def fall_silent(self) -> None:
        """Its machine is frozen, or cut off."""
        self.is_silent = True

    # -- calls --------------------------------------------------------------------

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method."""
        answer: Future[Any] = Future()
        self._cluster.calls += 1
        self._asked.add(answer)
        self._cluster.travel(self._arrive, answer, method, args)
        return answer

    def _arrive(self, answer: Future[Any], method: str, args: tuple[Any, ...]) -> None:
        if self.is_dead or self.is_over:
            self._fail(answer)
        elif not self.is_silent:
            self._methods[method](answer, *args)

    def _answer(self, answer: Future[Any], value: Any) -> None:
        self._asked.discard(answer)
        if not self.is_silent:
            self._cluster.travel(answer.set_result, value)

    def _fail(self, answer: Future[Any]) -> None:
        if answer in self._asked:
            self._asked.discard(answer)
            answer.set_exception(ConnectionError("the actor died"))

    def release(self) -> None:
        """End it."""
        self.is_over = True
        self._stop()
        for answer in list(self._asked):
            self._fail(answer)

    def _stop(self) -> None:
        for timer in (self._timer, self._hold):
            if timer is not None:
                timer.cancel()

    # -- the actor's methods --------------------------------------------------------

    def _open(self, answer: Future[Any]) -> None:
        asyncio.get_running_loop().call_later(self._cluster.start, self._say, frame(READY))
        self._answer(answer, pickle.dumps(hello()))

    def _push(self, answer: Future[Any], number: int, message: bytes) -> None:
        self._early[number] = Push(*unpack(message))
        while (push := self._early.pop(self._pushed + 1, None)) is not None:
            self._pushed += 1
            for record in self._control_frames.feed(push.control):
                self._obey(record[0], record[6])
            for part in push.data:
                for kind, _, _, id, *_ in self._frames.feed(part):
                    if kind in TASKS or kind == STOP:
                        self._queue.append(id)
        self._answer(answer, b"")
        self._run()

    def _take_pull(self, answer: Future[Any], received: int, *_: object) -> None:
        if received != self._answers:  # the last answer was lost
            self._answer(answer, self._last)
            return
        self._pull = answer
        if self._data or self._control or self._exited:
            self._reply()
        else:
            hold = self._order.lost_after * HOLD
            self._hold = asyncio.get_running_loop().call_later(hold, self._reply)

    def _take_signal(self, answer: Future[Any], number: int) -> None:
        self._answer(answer, b"")
        self._exit(-number)

    def _stack(self, answer: Future[Any]) -> None:
        self._answer(answer, "")

    # -- its worker -----------------------------------------------------------------

    def _obey(self, kind: int, payload: bytes | memoryview) -> None:
        if kind not in (RECALL, CANCEL):
            return
        numbers = unpack_numbers(payload)
        named = list(zip(numbers[::2], numbers[1::2], strict=True))
        if taken := self._turns.take_back(named):
            self._control.append(frame(RETURNED, pack_numbers(taken)))
            self._news()
        if kind == CANCEL and self._running is not None and self._running[0] in numbers[1::2]:
            self._end(CANCELLED)

    def _run(self) -> None:
        while self._queue and self._running is None:
            id = self._queue.popleft()
            if not id:
                self._data.append(frame(BYE))
                self._exit(0)
            elif self._turns.begin():
                seconds = self._cluster.seconds()
                self._running = id, monotonic()
                if seconds:
                    self._timer = asyncio.get_running_loop().call_later(seconds, self._end_and_run)
                else:
                    self._end()

    def _end_and_run(self) -> None:
        self._end()
        self._run()

    def _end(self, kind: int = RESULT) -> None:
        assert self._running is not None
        id, start = self._running
        self._running = None
        self._cluster.ran += 1
        self._say(frame(kind, id=id, start=start, end=monotonic()))

    def _exit(self, code: int) -> None:
        if self._exited is None:
            self._queue.clear()
            if self._timer is not None:
                self._timer.cancel()
            started = [self._running] if self._running is not None else []
            self._running = None
            self._exited = End(code, started, None, None, None, None, "", None)
            self._news()

    def _say(self, data: bytes) -> None:
        self._data.append(data)
        self._news()

    def _news(self) -> None:
        if self._pull is not None and not self.is_over:
            if self._hold is not None:
                self._hold.cancel()
                self._hold = None
            asyncio.get_running_loop().call_soon(self._reply)

    def _reply(self) -> None:
        answer, self._pull = self._pull, None
        if answer is None or answer not in self._asked:
            return
        self._answers += 1
        control, data = b"".join(self._control), [b"".join(self._data)]
        self._control.clear()
        self._data.clear()
        running = [self._running] if self._running is not None else []
        self._last = pack(Reply(self._answers, control, data, b"", running, self._exited, monotonic(), 0.0))
        self._answer(answer, self._last)
