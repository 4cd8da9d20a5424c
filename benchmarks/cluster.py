"""P10: no-op tasks through clusters' engines on this machine, against the engines' own call for each task."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from benchmarks.model import Case, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.timing import time_gather
from benchmarks.work import noop

Cluster = Callable[[int], AbstractContextManager[Any]]
DASK, RAY = "offloop on Dask", "offloop on Ray"
DASK_CALLS, RAY_CALLS = "Dask, a call a task", "Ray, a call a task"


@contextmanager
def dask(workers: int) -> Iterator[Any]:
    """A Dask cluster of processes on loopback; gives a client."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def ray(workers: int) -> Iterator[Any]:
    """A Ray cluster of one node on loopback; gives the module."""
    os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")
    import ray as engine

    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        engine.init(num_cpus=workers, include_dashboard=False, _node_ip_address="127.0.0.1")
        try:
            yield engine
        finally:
            engine.shutdown()


@asynccontextmanager
async def ours(
    settings: Settings, *, cluster: Cluster, factory: Callable[[Any], Any]
) -> AsyncIterator[Measure]:
    """Time a gather of 20,000 no-op tasks."""
    from offloop import WorkerPool

    with cluster(settings.workers) as engine:
        async with WorkerPool(settings.workers, factory=factory(engine)) as pool:

            async def measure() -> Sample:
                return {"noop": await time_gather(pool.submit, noop, settings.size(20_000, 10_000))}

            yield measure


@asynccontextmanager
async def dask_calls(settings: Settings) -> AsyncIterator[Measure]:
    """Time 1,000 no-op tasks that Dask's client submits, and gathers."""
    from time import perf_counter

    count = settings.size(1_000, 500)
    with dask(settings.workers) as client:

        async def measure() -> Sample:
            start = perf_counter()
            client.gather([client.submit(noop, pure=False) for _ in range(count)])
            return {"noop": (perf_counter() - start) / count}

        yield measure


@asynccontextmanager
async def ray_calls(settings: Settings) -> AsyncIterator[Measure]:
    """Time 1,000 no-op tasks that are remote functions of Ray's."""
    from time import perf_counter

    count = settings.size(1_000, 500)
    with ray(settings.workers) as engine:
        remote = engine.remote(noop)

        async def measure() -> Sample:
            start = perf_counter()
            engine.get([remote.remote() for _ in range(count)])
            return {"noop": (perf_counter() - start) / count}

        yield measure


def on_dask(client: Any) -> Any:
    """The factory of our workers there."""
    from offloop import DaskWorkerFactory

    return DaskWorkerFactory(client)


def on_ray(_engine: Any) -> Any:
    """The factory of our workers there."""
    from offloop import RayWorkerFactory

    return RayWorkerFactory()


def lines(_results: Results) -> Sequence[Line]:
    """Against the same engine."""
    return [
        Line(
            f"{name}: no-op submits gathered, rate",
            (own, "noop"),
            (calls, (calls, "noop")),
            goal=Goal(10.0, at_least=True),
            unit="/s",
            inverse=True,
        )
        for name, own, calls in [("Dask", DASK, DASK_CALLS), ("Ray", RAY, RAY_CALLS)]
    ]


CASE = Case(
    "P10",
    "no-op tasks through Dask and Ray on this machine",
    [
        Contender(DASK, partial(ours, cluster=dask, factory=on_dask), fresh=True),
        Contender(DASK_CALLS, dask_calls, fresh=True),
        Contender(RAY, partial(ours, cluster=ray, factory=on_ray), fresh=True),
        Contender(RAY_CALLS, ray_calls, fresh=True),
    ],
    lines,
)
