"""A cluster's engine in memory: its actors live on an event loop here, and fail as they are told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from offloop.contexts.cluster import ClusterOptions
from offloop.contexts.engine import Engine, Seat, Size
from offloop.contexts.far import FarWorker
from offloop.contexts.starters import LIMIT
from offloop.contexts.template import TemplateProcess, interpreter


class Cluster:
    """The machines; what happens to calls is said here.

    Args:
        loop: the event loop on which its actors live; by default that of who asks for one.

    Attributes:
        seats: all actors that were made.
        reorder: whether every second push arrives only behind the next one.
        duplicate: whether the answer to every third pull is lost, and the pull made again.
        refuse: raised where an actor is to be made.
        stillborn: so many actors, from now on, are dead before they are spoken to.
        machines: how many machines, with a CPU each, it says that it has.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop
        self.seats: list[FakeSeat] = []
        self.reorder = False
        self.duplicate = False
        self.is_full = False
        self.stillborn = 0
        self.machines = 2
        self.refuse: Exception | None = None
        self.calls: list[str] = []
        self.given_up: list[FakeSeat] = []
        self.closed = 0

    def factory(self, **options: Any) -> FakeWorkerFactory:
        """A factory of workers on it."""
        return FakeWorkerFactory(cluster=self, **options)


@contextmanager
def machine() -> Iterator[Cluster]:
    """A cluster whose actors live in a thread of their own, as real ones do elsewhere.

    Its template lives as long: what starts many workers there starts one interpreter.
    As there, what pytest says in this process's environment does not matter.
    """
    loop = asyncio.new_event_loop()
    python = interpreter(None, {}, ())
    thread = threading.Thread(target=loop.run_forever, name="machine")
    thread.start()

    async def begin() -> TemplateProcess:
        return TemplateProcess.obtain(loop, python, LIMIT)

    async def end() -> None:
        template.release()
        await template.wait_ended()

    try:
        template = asyncio.run_coroutine_threadsafe(begin(), loop).result()
        with patch("offloop.contexts.far.interpreter", lambda *options: python):
            yield Cluster(loop)
        asyncio.run_coroutine_threadsafe(end(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True, kw_only=True)
class FakeWorkerFactory(ClusterOptions):
    """Makes workers on a fake cluster."""

    cluster: Cluster = field(default_factory=Cluster)

    def engine(self) -> Engine:
        return FakeEngine(self.cluster)


class FakeEngine(Engine):
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def place(self, order: bytes) -> Future[Seat]:
        future: Future[Seat] = Future()
        if self._cluster.refuse is not None:
            future.set_exception(self._cluster.refuse)
        elif not self._cluster.is_full:
            seat = FakeSeat(self._cluster, order)
            self._cluster.seats.append(seat)
            future.set_result(seat)
        return future

    def size(self) -> Future[Size]:
        future: Future[Size] = Future()
        if self._cluster.refuse is not None:
            future.set_exception(self._cluster.refuse)
        else:
            future.set_result(Size(self._cluster.machines, self._cluster.machines))
        return future

    def lost(self, seat: Seat) -> None:
        assert isinstance(seat, FakeSeat)
        self._cluster.given_up.append(seat)

    def close(self) -> Future[None]:
        self._cluster.closed += 1
        loop = self._cluster.loop or asyncio.get_running_loop()
        return asyncio.run_coroutine_threadsafe(self._closed(), loop)

    async def _closed(self) -> None:
        await asyncio.gather(*(seat.closing for seat in self._cluster.seats if seat.closing is not None))


class FakeSeat(Seat):
    """One actor."""

    def __init__(self, cluster: Cluster, order: bytes) -> None:
        self.where = f"machine{len(cluster.seats)}"
        self.is_mute = False
        self.is_dead = cluster.stillborn > 0
        cluster.stillborn -= self.is_dead
        self.closing: asyncio.Task[bytes] | None = None
        self.actor = FarWorker(order)
        self._cluster = cluster
        self._loop = cluster.loop or asyncio.get_running_loop()
        self._held: Callable[[], None] | None = None
        self._pulls = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, method: str, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._cluster.calls.append(method)
        self._loop.call_soon_threadsafe(self._arrive, future, method, args)
        return future

    def _arrive(self, future: Future[Any], method: str, args: tuple[Any, ...]) -> None:
        if self.is_dead:
            future.set_exception(ConnectionError("the actor died"))
        elif not self.is_mute:
            self._deliver(future, method, args)

    def _deliver(self, future: Future[Any], method: str, args: tuple[Any, ...]) -> None:
        if method == "push" and self._cluster.reorder:
            if self._held is None:
                self._held = lambda: self._start(future, method, args)
                self._loop.call_later(0.005, self._let_through)
                return
            self._start(future, method, args)
            self._let_through()
        else:
            self._start(future, method, args)

    def _let_through(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held()

    def _start(self, future: Future[Any], method: str, args: tuple[Any, ...]) -> None:
        task = self._loop.create_task(self._run(future, method, args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, future: Future[Any], method: str, args: tuple[Any, ...]) -> None:
        try:
            result = await getattr(self.actor, method)(*args)
            self._pulls += method == "pull"
            if method == "pull" and self._cluster.duplicate and self._pulls % 3 == 0:
                result = await self.actor.pull(*args)  # the first answer was lost
        except asyncio.CancelledError:
            if self.is_dead:
                future.set_exception(ConnectionError("the actor died"))
            raise
        except Exception as error:
            future.set_exception(error)
        else:
            if not self.is_mute:
                future.set_result(result)

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        if self.closing is None:
            self._cancel()
            self.closing = self._loop.create_task(self.actor.close())

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def die(self) -> None:
        """The machine dies, and the engine knows it."""
        self.is_dead = True
        self.actor._close()
        self._cancel()

    def fall_silent(self) -> None:
        """The machine is cut off: nothing is answered any more."""
        self.is_mute = True
