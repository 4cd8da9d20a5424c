"""The context that is picked by what runs Python code in parallel here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from offloop.contexts.interpreter import InterpreterContext, InterpreterWorkerFactory, has_interpreters
from offloop.contexts.moving import MovingContext
from offloop.contexts.process import ProcessContext, ProcessWorkerFactory
from offloop.contexts.thread import ThreadWorkerFactory
from offloop.environment import Environment
from offloop.link import Context
from offloop.worker import Worker, WorkerFactory

_FACTORIES: dict[str, type[ProcessWorkerFactory | ThreadWorkerFactory]] = {
    "process": ProcessWorkerFactory,
    "thread": ThreadWorkerFactory,
}


def pick() -> str:
    """The name of the context in which Python code runs in parallel here, within this process if it does."""
    if is_free_threaded():
        return "thread"
    return "interpreter" if has_interpreters() else "process"


def is_free_threaded() -> bool:
    """Whether threads run Python code in parallel: the build allows it, and no extension has undone it."""
    is_gil_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return not is_gil_enabled()


@dataclass(frozen=True, kw_only=True)
class AutoWorkerFactory(WorkerFactory):
    """Makes workers that run Python code in parallel, within this process where the code allows it.

    On a free-threaded build of Python, unless an extension module has turned the
    GIL on, they are threads.  From Python 3.14 on they are interpreters, until a
    task or the bootstrap needs an extension module that refuses interpreters, as
    NumPy does: then that runs in a process, and so does what follows.  Elsewhere
    they are processes.  It picks when it is made; `kind` says what.  A single
    worker (`create`) can't move, and is a thread or a process.

    Args:
        environment: class or zero-argument factory of the worker's `Environment`.
        bootstrap: run before the first task: a callable given the environment
            (sync or async), or a path to a Python file.
        concurrency: how many async tasks of one worker may overlap.
    """

    limits_memory: ClassVar[bool] = True

    environment: Callable[[], Environment] | None = None
    bootstrap: Callable[[Environment], Any] | str | os.PathLike[str] | None = None
    concurrency: int = 1
    _kind: str = field(default_factory=pick, init=False, repr=False)
    _refused: list[bool] = field(default_factory=list[bool], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.check_common(self.environment, self.bootstrap, self.concurrency)

    @property
    def kind(self) -> str:
        """What new workers are: ``"process"``, ``"thread"`` or ``"interpreter"``."""
        return "process" if self._refused else self._kind

    def limiting_memory(self) -> WorkerFactory:
        """Processes: they alone have memory of their own."""
        return self._made("process").limiting_memory()

    def create(self) -> Worker:
        """A new worker, which starts at its first task."""
        return self._made("thread" if self.kind == "thread" else "process").create()

    def context(self) -> Context:
        """The context for one pool."""
        if self.kind != "interpreter":
            return self._made(self.kind).context()
        interpreters = InterpreterContext(InterpreterWorkerFactory(**self._options), looks_out=True)
        return MovingContext(interpreters, self._processes)

    def _processes(self) -> ProcessContext:
        """For workers that interpreters refuse."""
        self._refused.append(True)
        return ProcessContext(ProcessWorkerFactory(**self._options))

    @property
    def _options(self) -> dict[str, Any]:
        names = "environment", "bootstrap", "concurrency"
        return {name: getattr(self, name) for name in names}

    def _made(self, kind: str) -> WorkerFactory:
        return _FACTORIES[kind](**self._options)
