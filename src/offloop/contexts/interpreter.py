"""Workers in interpreters of their own within this process (PEP 734): each has its own GIL."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from offloop.contexts.imports import importable
from offloop.contexts.interpreter_link import InterpreterLink
from offloop.contexts.logs import LogQueue, LogReceiver
from offloop.contexts.packing import Packer
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.unmapping import wait_unmapped
from offloop.environment import Environment
from offloop.link import Context, LinkOwner
from offloop.wire.definitions import Definitions
from offloop.worker import WorkerFactory


def has_interpreters() -> bool:
    """Whether this Python has interpreters: from 3.14 on."""
    return sys.version_info >= (3, 14)


@dataclass(frozen=True, kw_only=True)
class InterpreterWorkerFactory(WorkerFactory):
    """Makes workers that live in interpreters of this process, which run Python code in parallel.

    They need Python 3.14.  As with processes, tasks and results are pickled, and
    each worker imports what it needs; extension modules that refuse interpreters
    other than the main one, as NumPy does, can't be imported there.  As with
    threads, a crash ends the whole program, and code that will not stop can't be
    killed: it is abandoned, with a warning.

    Args:
        environment: class or zero-argument factory of the worker's `Environment`.
        bootstrap: run before the first task: a callable given the environment
            (sync or async), or a path to a Python file, in which the name
            ``environment`` is defined.
        concurrency: how many async tasks of one worker may overlap.

    Raises:
        RuntimeError: this Python is older than 3.14.
    """

    environment: Callable[[], Environment] | None = None
    bootstrap: Callable[[Environment], Any] | str | os.PathLike[str] | None = None
    concurrency: int = 1

    def __post_init__(self) -> None:
        if not has_interpreters():
            here = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise RuntimeError(
                f"interpreter workers need Python 3.14 or newer, and this is {here}: "
                'use factory="process", or "auto"'
            )
        self.check_common(self.environment, self.bootstrap, self.concurrency)

    def context(self) -> Context:
        """The context for one pool."""
        return InterpreterContext(self)


class InterpreterContext(Context):
    """The interpreters of one pool: what they share in the parent's.

    Args:
        factory: their options.
        looks_out: whether what refuses to be imported there can run elsewhere.
    """

    def __init__(self, factory: InterpreterWorkerFactory, *, looks_out: bool = False) -> None:
        self.slots = factory.concurrency
        self._factory = factory
        self._looks_out = looks_out
        self._loop = asyncio.get_running_loop()
        self._definitions = Definitions(importable)
        self._packer = Packer(importable)
        self._logs = LogQueue(self._loop)

    def connect(self, number: int, owner: LinkOwner) -> InterpreterLink:
        """A link to a worker in a new interpreter."""
        factory = self._factory
        options = WorkerOptions(
            number, self.slots, factory.environment, factory.bootstrap, looks_out=self._looks_out
        )
        logs = LogReceiver(self._logs, number)
        return InterpreterLink(self._loop, self._definitions, options, owner, logs)

    def pack(self, value: Any) -> bytes:
        """A message to a running task, pickled by itself: definitions travel on another way."""
        return self._packer.pack(value)

    async def aclose(self) -> None:
        """Wait until all logs are handled, and memory is given back."""
        await self._logs.wait_empty()
        await wait_unmapped()
