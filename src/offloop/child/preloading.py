"""Modules that are loaded once, before workers are forked: what each worker has of them, and what not."""

from __future__ import annotations

import gc
import sys

from offloop.child import modules
from offloop.child.standard import flush_standard_streams

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def preload(names: Iterable[str]) -> None:
    """Import the modules that the user wants to be shared by all workers.

    Raises:
        BaseException: one of them can't be imported.
    """
    for name in names:
        __import__(name)
    _make_ready()


def preload_for_workers(names: Iterable[str]) -> None:
    """Import what workers turned out to need; what fails here may still work in a worker."""
    for name in names:
        try:
            __import__(name)
        except Exception:
            pass  # the worker that needs it will say
    _make_ready()
    modules.take_stock()
    gc.freeze()


def _make_ready() -> None:
    """Do once what each worker would do else."""
    if "logging" in sys.modules:
        __import__("offloop.child.records")  # what forwards its records
    flush_standard_streams()  # what was printed is not to come from each worker again


def part_from_template() -> None:
    """In a worker, right after the fork: have for itself what it must not share with the others.

    What was opened before the fork is the template's, which closes it in the end.  A worker that ends
    must not: a temporary directory, made when a module was loaded, is there for all of them.  Functions
    that modules registered with `atexit` are not like that, most of them (`logging`'s closes this process's
    handlers): those are run in each worker, as if it had loaded the module itself.

    NumPy, other than `random`, does not see to it by itself that its global generator is another one
    after a fork.
    """
    weakref: Any = sys.modules.get("weakref")
    if weakref is not None:
        for finalizer in list(getattr(weakref.finalize, "_registry", ())):  # no public way leads to them
            finalizer.atexit = False
    random: Any = sys.modules.get("numpy.random")
    if random is not None:
        try:
            random.seed()
        except Exception:
            pass  # a module has put another generator in its place
