"""Carry out ``offloop doctor``: one finding after the other, printed as they come."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import offloop
from offloop.cli.clusters import cluster_factory, cluster_size
from offloop.cli.failures import one_line
from offloop.cli.machine import MACHINE, Finding
from offloop.contexts import CONTEXTS, resolve_factory

if TYPE_CHECKING:
    from offloop.contexts.cluster import ClusterOptions
    from offloop.contexts.engine import Size

#: The contexts of clusters: to try one would start or join a cluster.
_CLUSTERS = {"ray": "ray", "dask": "distributed"}
#: What an extra is for, and the module that shows that it is installed.
_EXTRAS = {
    "cli": ("rich", "progress bars and live views"),
    "joblib": ("joblib", "joblib and scikit-learn on offloop's workers"),
    "otel": ("opentelemetry", "a span for each task"),
    "ray": ("ray", "workers on a Ray cluster"),
    "dask": ("distributed", "workers on a Dask cluster"),
}
#: Calls whose median time is told.
_CALLS = 200
#: The same on a cluster.
_CALLS_THERE = 20
#: Seconds that a cluster may take to answer, and then to start a worker.
_BOUND_THERE = 15.0
#: Seconds that a context may take before it counts as failed.
_BOUND = 30.0


def examine(cluster: str | None = None) -> int:
    """Print every finding; 1 if something failed, else 0.

    Args:
        cluster: the address of a cluster that is to be tried as well.
    """
    print(f"offloop {offloop.__version__} in {sys.prefix}")
    print(f"{platform.platform()}\n")
    failed = False
    there = [("cluster", partial(_try_cluster, cluster))] if cluster is not None else []
    for finding in findings([*MACHINE, *_contexts(), *_extras(), *there]):
        failed |= finding.verdict == "FAIL"
        print(as_text(finding, _width()), flush=True)
    return int(failed)


def findings(checks: Iterable[tuple[str, Callable[[], Finding]]]) -> Iterator[Finding]:
    """What the checks find; one that raises has found that something does not work."""
    for subject, check in checks:
        try:
            yield check()
        except Exception as error:
            yield Finding("FAIL", subject, one_line(error))


def as_text(finding: Finding, width: int | None) -> str:
    """A finding as one line, or as several of at most ``width`` characters."""
    text = f"{finding.verdict:6}{finding.subject:15}{finding.text}"
    if width is None:
        return text
    return textwrap.fill(text, max(width, 40), subsequent_indent=" " * 21, break_on_hyphens=False)


def _width() -> int | None:
    return shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else None


def _contexts() -> Iterator[tuple[str, Callable[[], Finding]]]:
    for name in CONTEXTS:
        if name not in _CLUSTERS:
            yield name, partial(_try_context, name)


def _try_context(name: str) -> Finding:
    try:
        factory = resolve_factory(name)
    except (ImportError, RuntimeError, ValueError) as error:  # it cannot be had with this Python
        return Finding("none", name, str(error))
    first, further, call = asyncio.run(_time_context(factory))
    return Finding(
        "ok",
        name,
        f"first worker ready in {first * 1e3:,.0f} ms, the next in {further * 1e3:,.1f} ms; "
        f"{call * 1e6:,.0f} µs there and back",
    )


def _try_cluster(address: str) -> Finding:
    size, first, call = asyncio.run(_time_cluster(cluster_factory(address, _BOUND_THERE)))
    if not size.cpus:
        return Finding("FAIL", "cluster", f"{address} has no CPU for a worker")
    machines = "1 machine" if size.machines == 1 else f"{size.machines:,} machines"
    cpus = "1 CPU" if size.cpus == 1 else f"{size.cpus:,} CPUs"
    return Finding(
        "ok",
        "cluster",
        f"{machines} with {cpus}; first worker ready in {first:,.1f} s; {call * 1e3:,.1f} ms there and back",
    )


async def _time_cluster(factory: ClusterOptions) -> tuple[Size, float, float]:
    """The cluster's size, and seconds to a first result and for a call when all is warm."""
    size = await cluster_size(factory)
    began, times = perf_counter(), list[float]()
    if not size.cpus:
        return size, 0.0, 0.0
    async with asyncio.timeout(_BOUND), offloop.WorkerPool(1, factory=factory) as pool:
        await pool.submit(os.getpid)
        first = perf_counter() - began
        for _ in range(_CALLS_THERE):
            began = perf_counter()
            await pool.submit(os.getpid)
            times.append(perf_counter() - began)
    return size, first, median(times)


async def _time_context(factory: offloop.WorkerFactory) -> tuple[float, float, float]:
    """Seconds to the first result, to that of a second worker, and for a call when both are warm."""
    async with asyncio.timeout(_BOUND):
        began = perf_counter()
        async with offloop.WorkerPool(2, factory=factory) as pool:
            await pool.submit(os.getpid)
            first = perf_counter() - began
            async with pool.get_worker() as worker:
                await worker.submit(os.getpid)  # so that the next call needs another one
                began = perf_counter()
                async with pool.get_worker() as other:
                    await other.submit(os.getpid)
                    further = perf_counter() - began
                    times: list[float] = []
                    for _ in range(_CALLS):
                        began = perf_counter()
                        await other.submit(os.getpid)
                        times.append(perf_counter() - began)
    return first, further, median(times)


def _extras() -> Iterator[tuple[str, Callable[[], Finding]]]:
    for name, (module, purpose) in _EXTRAS.items():
        yield name, partial(_look_for_extra, name, module, purpose)


def _look_for_extra(name: str, module: str, purpose: str) -> Finding:
    from importlib.util import find_spec

    subject = f"extra {name}"
    if find_spec(module) is None:
        return Finding("none", subject, f"{purpose}: pip install 'offloop[{name}]'")
    return Finding("ok", subject, f"{purpose}: {module} is installed")
