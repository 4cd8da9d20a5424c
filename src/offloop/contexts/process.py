"""Workers in processes: forked from a template, or started one by one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from offloop.contexts.imports import importable
from offloop.contexts.process_link import ProcessLink
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.starters import ExecStarter, Starter, TemplateStarter
from offloop.contexts.template import interpreter
from offloop.environment import Environment
from offloop.link import Context, LinkOwner
from offloop.wire.definitions import Definitions
from offloop.worker import WorkerFactory

#: Variables that cap the thread pools of OpenMP and the BLAS libraries.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True, kw_only=True)
class ProcessWorkerFactory(WorkerFactory):
    """Makes workers that live in processes of their own.

    Args:
        environment: class or zero-argument factory of the worker's `Environment`.
        bootstrap: run before the first task: a callable given the environment
            (sync or async), or a path to a Python file, in which the name
            ``environment`` is defined.
        concurrency: how many async tasks of one worker may overlap.
        preload: names of modules imported once, before workers are forked, and
            shared by all of them.
        env: environment variables for the workers, beside those of this process.
        cwd: their working directory; by default this process's at their start.
        nice: added to their niceness.
        cpu_affinity: the CPUs they may use; ``"spread"`` pins each to one.
        memory_limit: bytes of address space; beyond it a task gets `MemoryError`.
        native_threads: the size of OpenMP and BLAS thread pools, so that workers
            do not fight for cores; None leaves them alone.  A variable such as
            ``OMP_NUM_THREADS`` that is set already wins.
        executable: the Python interpreter to run; by default this one.
        start_method: ``"template"`` forks workers, in about 2 ms each, from a
            process started for the purpose (this process itself is never
            forked); ``"exec"`` starts an interpreter for each, for libraries
            that do not bear forking.
    """

    environment: Callable[[], Environment] | None = None
    bootstrap: Callable[[Environment], Any] | str | os.PathLike[str] | None = None
    concurrency: int = 1
    preload: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | os.PathLike[str] | None = None
    nice: int = 0
    cpu_affinity: Sequence[int] | Literal["spread"] | None = None
    memory_limit: int | None = None
    native_threads: int | None = 1
    executable: str | None = None
    start_method: Literal["template", "exec"] = "template"

    def __post_init__(self) -> None:
        self.check_common(self.environment, self.bootstrap, self.concurrency)
        if self.start_method not in ("template", "exec"):
            raise ValueError(f'start_method must be "template" or "exec", not {self.start_method!r}')
        if isinstance(self.preload, str):
            raise TypeError("preload must be a sequence of module names, not a string")

    def context(self) -> Context:
        """The context for one pool."""
        return ProcessContext(self)

    def variables(self) -> dict[str, str]:
        """The environment variables to add."""
        caps = {name: str(self.native_threads) for name in _THREADS} if self.native_threads else {}
        return {**{k: v for k, v in caps.items() if k not in os.environ}, **self.env}

    def cpus(self, number: int) -> list[int] | None:
        """The CPUs for worker ``number``."""
        if self.cpu_affinity is None or not hasattr(os, "sched_getaffinity"):
            return None
        if self.cpu_affinity != "spread":
            return list(self.cpu_affinity)
        usable = sorted(os.sched_getaffinity(0))
        return [usable[(number - 1) % len(usable)]]


class ProcessContext(Context):
    """The processes of one pool: what they share in the parent."""

    def __init__(self, factory: ProcessWorkerFactory) -> None:
        self.slots = factory.concurrency
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._definitions = Definitions(importable)
        python = interpreter(factory.executable, factory.variables(), tuple(factory.preload))
        starter = TemplateStarter if factory.start_method == "template" else ExecStarter
        self._starter: Starter = starter(self._loop, python)

    def connect(self, number: int, owner: LinkOwner) -> ProcessLink:
        """A link to a new worker process."""
        factory = self._factory
        options = WorkerOptions(
            number=number,
            slots=self.slots,
            cwd=os.fspath(factory.cwd) if factory.cwd is not None else None,
            nice=factory.nice,
            cpus=factory.cpus(number),
            memory_limit=factory.memory_limit,
            environment=factory.environment,
            bootstrap=factory.bootstrap
            if callable(factory.bootstrap) or factory.bootstrap is None
            else os.path.abspath(factory.bootstrap),
        )
        return ProcessLink(self._loop, self._starter, self._definitions, options, owner)

    async def aclose(self) -> None:
        """End the template, unless another pool uses it, and wait until it is gone."""
        self._starter.release()
        await self._starter.wait_ended()

    def abandon(self) -> None:
        """The same without waiting."""
        self._starter.release()
