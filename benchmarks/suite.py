"""The benchmarks by name."""

from __future__ import annotations

from importlib import import_module

from benchmarks.model import Case

#: Name on the command line -> module.  P10, the clusters' engines, is measured where they are tested.
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
    "p11": "threads",
}


def module(name: str) -> str:
    """The full name of the module of the benchmark with this name; its ``CASE`` is the benchmark."""
    return f"benchmarks.{MODULES[name]}"


def load(name: str) -> Case:
    """The benchmark with this name."""
    case: Case = import_module(module(name)).CASE
    return case
