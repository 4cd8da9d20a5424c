"""The places where workers live; a new one is one new module and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from offloop.worker import WorkerFactory

if TYPE_CHECKING:
    from offloop.contexts.auto import AutoWorkerFactory as AutoWorkerFactory
    from offloop.contexts.dask import DaskWorkerFactory as DaskWorkerFactory
    from offloop.contexts.interpreter import InterpreterWorkerFactory as InterpreterWorkerFactory
    from offloop.contexts.process import ProcessWorkerFactory as ProcessWorkerFactory
    from offloop.contexts.ray import RayWorkerFactory as RayWorkerFactory
    from offloop.contexts.thread import ThreadWorkerFactory as ThreadWorkerFactory

#: The name of a context, its module, its factory.
CONTEXTS = {
    "process": ("offloop.contexts.process", "ProcessWorkerFactory"),
    "thread": ("offloop.contexts.thread", "ThreadWorkerFactory"),
    "interpreter": ("offloop.contexts.interpreter", "InterpreterWorkerFactory"),
    "auto": ("offloop.contexts.auto", "AutoWorkerFactory"),
}
#: Those of clusters, which have no name: they need to be told of theirs.
CLUSTERS = {"DaskWorkerFactory": "offloop.contexts.dask", "RayWorkerFactory": "offloop.contexts.ray"}

__all__ = [
    "CONTEXTS",
    "AutoWorkerFactory",
    "DaskWorkerFactory",
    "InterpreterWorkerFactory",
    "ProcessWorkerFactory",
    "RayWorkerFactory",
    "ThreadWorkerFactory",
    "WorkerFactory",
    "resolve_factory",
]


def __getattr__(name: str) -> Any:
    for module, factory in CONTEXTS.values():
        if factory == name:
            return getattr(import_module(module), name)
    if name in CLUSTERS:
        return getattr(import_module(CLUSTERS[name]), name)
    raise AttributeError(f"module 'offloop.contexts' has no attribute {name!r}")


def resolve_factory(factory: object) -> WorkerFactory:
    """The factory itself, or the one for a context's name with default options.

    Raises:
        ValueError: there is no such context.
        TypeError: neither a factory nor a name.
        RuntimeError: that context is not to be had here: interpreters below Python 3.14.
    """
    if isinstance(factory, WorkerFactory):
        return factory
    if not isinstance(factory, str):
        given = f"the class: {factory.__name__}()" if isinstance(factory, type) else type(factory).__name__
        raise TypeError(f"factory must be a WorkerFactory or a context's name, not {given}")
    if factory not in CONTEXTS:
        raise ValueError(f"no context is called {factory!r}; there are {', '.join(sorted(CONTEXTS))}")
    module, name = CONTEXTS[factory]
    made: WorkerFactory = getattr(import_module(module), name)()
    return made
