"""Workers on a Dask cluster: the only file that knows `distributed`."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import KW_ONLY, dataclass
from time import monotonic
from typing import Any, TypeVar

from offloop.contexts.cluster import ClusterOptions
from offloop.contexts.engine import Engine, Seat, Size
from offloop.contexts.far import FarWorker

R = TypeVar("R")
#: Seconds for which no new worker is placed where one was lost, if there is another place.
SHUN = 60.0
#: Seconds between looks at whether the Dask worker that is to hold an actor is still there.
LOOK = 1.0
#: Seconds that an actor may take to tidy up.
CLOSE_GRACE = 3.0


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ImportError("DaskWorkerFactory needs Dask: pip install 'offloop[dask]'") from error
    return distributed


@dataclass(frozen=True)
class DaskWorkerFactory(ClusterOptions):
    """Makes workers on a Dask cluster: each is a process beside one of Dask's workers, held by an actor.

    Dask reserves nothing for actors.  So they are spread by the numbers of
    threads of Dask's workers, and share those with whatever else runs there.
    The program and the cluster must have the same versions of Python (3.x) and
    offloop, and this machine must reach Dask's workers, not only its scheduler.

    Args:
        client_or_address: the scheduler's address, such as
            ``"tcp://10.0.0.1:8786"``; or a `distributed.Client` or a cluster
            object, whose address and security are taken over.  A connection of its
            own is opened for each pool, and closed with it.
        security: a `distributed.security.Security`, or None for that of the client
            or cluster, or for none.
        workers: addresses of Dask's workers that may be used; by default all.

    The other options are those of every cluster: ``environment``, ``bootstrap``,
    ``concurrency``, ``preload`` and ``env`` as for processes;
    ``start_timeout=60.0`` seconds within which a worker must answer once it was
    asked for, and ``lost_after=10.0`` seconds of silence after which it is lost.

    Raises:
        ImportError: Dask is not installed here.
        TypeError: not a client, a cluster or an address.
    """

    client_or_address: Any
    _: KW_ONLY
    security: Any = None
    workers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _distributed()
        super().__post_init__()
        self._address()

    def _address(self) -> tuple[str, Any]:
        """The scheduler's address, and how to speak to it."""
        given = self.client_or_address
        if isinstance(given, str):
            return given, self.security
        address = getattr(given, "scheduler_address", None) or getattr(
            getattr(given, "scheduler", None), "address", None
        )
        if not isinstance(address, str):
            raise TypeError(
                "DaskWorkerFactory takes a scheduler's address, a distributed.Client or a cluster, "
                f"not {type(given).__name__}"
            )
        return address, self.security or getattr(given, "security", None)

    def engine(self) -> Engine:
        """A connection for one pool."""
        address, security = self._address()
        return DaskEngine(address, security, self.workers, self.start_timeout)


class DaskEngine(Engine):
    """A client of a scheduler, on an event loop in a thread of its own: Dask's work holds up nobody here.

    Args:
        address: the scheduler's.
        security: how to speak to it, or None.
        workers: addresses that may be used, or None for all.
        timeout: seconds to wait for the scheduler, and for a first worker of its.
    """

    def __init__(self, address: str, security: Any, workers: Sequence[str] | None, timeout: float) -> None:
        self._address = address
        self._security = security
        self._allowed = None if workers is None else frozenset(workers)
        self._timeout = timeout
        self._placed: Counter[str] = Counter()
        self._shunned: dict[str, float] = {}
        self._releasing: set[Future[Any]] = set()
        self._connecting: asyncio.Task[Any] | None = None
        self._closed: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="offloop-dask", daemon=True).start()

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        self._closed.set_result(None)

    def run(self, coroutine: Coroutine[Any, Any, R]) -> Future[R]:
        """Run a coroutine on that event loop."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise

    async def _connected(self) -> Any:
        """The client; it is connected anew if that has failed."""
        connecting = self._connecting
        if connecting is None or (connecting.done() and connecting.exception() is not None):
            connecting = self._connecting = self._loop.create_task(self._connect())
        return await asyncio.shield(connecting)

    async def _connect(self) -> Any:
        client = _distributed().Client(
            self._address,
            security=self._security,
            timeout=self._timeout,
            asynchronous=True,
            set_as_default=False,
            direct_to_workers=True,
            name="offloop",
        )
        try:
            return await client
        except BaseException:
            await client.close()
            raise

    def place(self, order: bytes) -> Future[Seat]:
        """Make an actor where there are the fewest for each thread."""
        return self.run(self._place(order))

    async def _usable(self, client: Any) -> dict[str, int]:
        """Addresses of Dask's workers that may be used, and how many threads they have."""
        await client.wait_for_workers(1, timeout=self._timeout)
        threads = await client.nthreads()
        usable = {each: threads[each] for each in threads if self._allowed is None or each in self._allowed}
        if not usable:
            raise RuntimeError("none of the Dask workers that may be used is there")
        return usable

    def size(self) -> Future[Size]:
        """Ask for the threads of Dask's workers that may be used."""
        return self.run(self._size())

    async def _size(self) -> Size:
        usable = await self._usable(await self._connected())
        return Size(len({each.rpartition(":")[0] for each in usable}), sum(usable.values()))

    async def _place(self, order: bytes) -> Seat:
        client = await self._connected()
        threads = await self._usable(client)
        now = monotonic()
        address = min(
            threads,
            key=lambda each: (self._shunned.get(each, 0.0) > now, self._placed[each] / max(1, threads[each])),
        )
        self._placed[address] += 1
        try:
            future = client.submit(FarWorker, order, actor=True, workers=[address], pure=False)
            with client.as_current():  # which the actor will call through
                actor = await self._made(client, future, address)
        except BaseException:
            self._placed[address] -= 1
            raise
        return DaskSeat(self, address, actor, future)

    async def _made(self, client: Any, future: Any, address: str) -> Any:
        """The actor.  Dask waits for ever for a worker that is gone, and tells nobody: it is asked."""
        making = asyncio.ensure_future(future)
        try:
            while not (await asyncio.wait({making}, timeout=LOOK))[0]:
                if address not in await client.nthreads():
                    raise ConnectionError(f"the Dask worker at {address} is gone")
            return making.result()
        finally:
            making.cancel()

    def lost(self, seat: Seat) -> None:
        """Keep away from its place for a while."""
        self._shunned[seat.where] = monotonic() + SHUN

    def vacate(self, address: str, released: Future[Any]) -> None:
        """An actor is on its way out."""
        self._placed[address] -= 1
        self._releasing.add(released)
        released.add_done_callback(self._releasing.discard)

    def close(self) -> Future[None]:
        """Close the client once its actors have tidied up, and end the thread."""
        closing = self.run(self._close())
        closing.add_done_callback(lambda closing: self._loop.call_soon_threadsafe(self._loop.stop))
        return self._closed

    async def _close(self) -> None:
        if self._releasing:
            waiting = [asyncio.wrap_future(each) for each in self._releasing]
            await asyncio.wait(waiting, timeout=CLOSE_GRACE + 1)
        if self._connecting is not None:
            self._connecting.cancel()  # if it still is
            client: Any = (await asyncio.gather(self._connecting, return_exceptions=True))[0]
            if not isinstance(client, BaseException):
                await client.close(timeout=CLOSE_GRACE)


class DaskSeat(Seat):
    """One actor.

    Args:
        engine: made it.
        address: of the Dask worker that it is on.
        actor: the actor.
        future: holds it there.
    """

    def __init__(self, engine: DaskEngine, address: str, actor: Any, future: Any) -> None:
        self.where = address
        self._engine = engine
        self._actor = actor
        self._future = future
        self._is_released = False

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method, from worker to worker without the scheduler."""
        return self._engine.run(self._call(method, args))

    async def _call(self, method: str, args: tuple[Any, ...]) -> Any:
        return await getattr(self._actor, method)(*args)

    def release(self) -> None:
        """Have the actor end its worker process, and forget it: Dask's worker lives on."""
        if not self._is_released:
            self._is_released = True
            try:
                released = self._engine.run(self._release())
            except RuntimeError:
                return  # the connection was ended first
            self._engine.vacate(self.where, released)

    async def _release(self) -> None:
        try:
            await asyncio.wait_for(self._call("close", ()), CLOSE_GRACE)
        except Exception:
            pass  # it is gone, or can't be reached: then it ends itself
        finally:
            self._future.release()
