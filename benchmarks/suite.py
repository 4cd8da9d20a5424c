"""The benchmarks by name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from benchmarks.model import Case

#: Name on the command line -> module.
MODULES = {
    "p1": "tasks",
    "p2": "latency",
    "p3": "arrays",
    "p4": "mapping",
    "p5": "startup",
    "p6": "scheduling",
    "p7": "memory",
    "p8": "lag",
    "p9": "scale",
    "p10": "cluster",
    "p11": "threads",
    "mix": "mixes",
    "map": "mapresults",
}


def usual() -> list[str]:
    """What is measured if nothing is named: P10 only where the clusters' engines are installed."""
    has_engines = all(find_spec(engine) is not None for engine in ("distributed", "ray"))
    return [name for name in MODULES if has_engines or name != "p10"]


def module(name: str) -> str:
    """The full name of the module of the benchmark with this name; its ``CASE`` is the benchmark."""
    return f"benchmarks.{MODULES[name]}"


def load(name: str) -> Case:
    """The benchmark with this name."""
    case: Case = import_module(module(name)).CASE
    return case
