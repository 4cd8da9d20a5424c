"""Workers on a Ray cluster: the only file that knows `ray`."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

from offloop.contexts.cluster import ClusterOptions
from offloop.contexts.engine import Engine, Seat, Size
from offloop.contexts.far import FarWorker


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("RayWorkerFactory needs Ray: pip install 'offloop[ray]'") from error
    return ray


@dataclass(frozen=True, kw_only=True)
class RayWorkerFactory(ClusterOptions):
    """Makes workers on a Ray cluster: each is a process beside an actor, which holds the resources.

    The program and the cluster must have the same versions of Python (3.x) and
    offloop.  Where the cluster has no room for another actor, a pool goes on with
    the workers that it has, and the others start when there is room.

    Args:
        address: of the cluster, as `ray.init` takes it.  By default the connection
            that this process has, or, if it has none, what ``ray.init()`` makes.
            A connection belongs to the process, and stays when a pool ends.
        num_cpus: CPUs that Ray reserves for each worker.
        num_gpus: GPUs that Ray reserves for each worker, and makes the only ones that it sees.
        resources: other resources, by name, that Ray reserves for each worker.
        runtime_env: of the actors, and so of the workers; see Ray's documentation.
        placement: a scheduling strategy of Ray's, such as ``"SPREAD"`` or a
            `ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy`.

    The other options are those of every cluster: ``environment``, ``bootstrap``,
    ``concurrency``, ``preload`` and ``env`` as for processes;
    ``start_timeout=60.0`` seconds within which a worker must answer once it was
    asked for, if no other does; and ``lost_after=10.0`` seconds of silence after
    which it is lost.

    Raises:
        ImportError: Ray is not installed here.
    """

    #: What is reserved for a worker is free for the next one only when it has ended.
    has_spare: ClassVar[bool] = False

    address: str | None = None
    num_cpus: float = 1
    num_gpus: float = 0
    resources: Mapping[str, float] | None = None
    runtime_env: Mapping[str, Any] | None = None
    placement: Any = None

    def __post_init__(self) -> None:
        _ray()
        super().__post_init__()

    def actor_options(self) -> dict[str, Any]:
        """What Ray is told of the actors.  It neither restarts one nor repeats a call: tasks run once."""
        options: dict[str, Any] = {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if self.resources is not None:
            options["resources"] = dict(self.resources)
        if self.runtime_env is not None:
            options["runtime_env"] = dict(self.runtime_env)
        if self.placement is not None:
            options["scheduling_strategy"] = self.placement
        return options

    def engine(self) -> Engine:
        """This process's connection, for one pool."""
        return RayEngine(self.address, self.actor_options())


class RayEngine(Engine):
    """Makes actors; what may take long is done in a thread.

    Args:
        address: see `RayWorkerFactory`.
        options: of the actors.
    """

    #: An actor without room waits for it.
    waits_for_room = True

    def __init__(self, address: str | None, options: dict[str, Any]) -> None:
        self._ray = _ray()
        self._address = address
        self._options = options
        self._thread = ThreadPoolExecutor(1, "offloop-ray")

    def place(self, order: bytes) -> Future[Seat]:
        """Ask for an actor; it need not be there yet."""
        return self._thread.submit(self._place, order)

    def _connected(self) -> Any:
        """The module, connected."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(address=self._address, ignore_reinit_error=True)
        return ray

    def _place(self, order: bytes) -> Seat:
        actor = self._connected().remote(FarWorker).options(**self._options).remote(order)
        return RaySeat(self, actor)

    def size(self) -> Future[Size]:
        """Ask Ray what there is, in use or not."""
        return self._thread.submit(self._size)

    def _size(self) -> Size:
        ray = self._connected()
        machines = sum(bool(node["Alive"]) for node in ray.nodes())
        return Size(machines, int(ray.cluster_resources().get("CPU", 0)))

    def kill(self, actor: Any) -> None:
        """End an actor, and what it has started; it is not waited for."""
        try:
            self._thread.submit(self._kill, actor)
        except RuntimeError:
            pass  # this was closed; without a reference to it the actor ends

    def _kill(self, actor: Any) -> None:
        if self._ray.is_initialized():
            self._ray.kill(actor, no_restart=True)

    def close(self) -> Future[None]:
        """End the thread; the connection is the process's."""
        done = self._thread.submit(bool)
        self._thread.shutdown(wait=False)
        result: Future[None] = Future()
        done.add_done_callback(lambda done: result.set_result(None))
        return result


class RaySeat(Seat):
    """One actor.

    Args:
        engine: made it.
        actor: its handle.
    """

    def __init__(self, engine: RayEngine, actor: Any) -> None:
        self._engine = engine
        self._actor = actor
        self._is_released = False

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method."""
        future: Future[Any] = getattr(self._actor, method).remote(*args).future()
        return future

    def release(self) -> None:
        """Kill the actor: nothing of the user's runs in it."""
        if not self._is_released:
            self._is_released = True
            self._engine.kill(self._actor)
