"""Workers in processes: forked from a template, or started one by one."""

from __future__ import annotations

import asyncio
import os
import sysconfig
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, cast

from offloop.checks import as_int, as_int_or_none
from offloop.child import install_kill_points
from offloop.child.standard import hold_standard_descriptors
from offloop.contexts.foresight import define_ahead, modules_for
from offloop.contexts.imports import importable
from offloop.contexts.logs import LogQueue, LogReceiver
from offloop.contexts.oom import OomWatch
from offloop.contexts.packing import Packer
from offloop.contexts.process_link import ProcessLink
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.starters import ExecStarter, Starter, TemplateStarter
from offloop.contexts.template import interpreter
from offloop.contexts.unmapping import wait_unmapped
from offloop.environment import Environment
from offloop.link import Context, Link, LinkOwner
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

install_kill_points("parent")


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
            shared by all of them, random generators that they have made included
            (but for those of `random` and NumPy's global one).
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

    limits_memory: ClassVar[bool] = True

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
        _check_names(self.preload)
        _check_variables(self.env)
        _check_cpus(self.cpu_affinity)
        object.__setattr__(self, "nice", as_int("nice", self.nice))
        _check_path("cwd", self.cwd)
        _check_path("executable", self.executable)
        # The system takes any number for a limit, and what is below 0 for none.
        for name, number in (("memory_limit", self.memory_limit), ("native_threads", self.native_threads)):
            object.__setattr__(self, name, as_int_or_none(name, number, 1))

    def context(self) -> Context:
        """The context for one pool."""
        return ProcessContext(self)

    def limiting_memory(self) -> WorkerFactory:
        """This one; on a free-threaded build its workers give memory back as soon as it is freed.

        The allocator of such a build keeps it otherwise, for as long as it is not
        asked for more: what was collected would be taken for what is kept.
        """
        if not sysconfig.get_config_var("Py_GIL_DISABLED"):
            return self
        return replace(self, env={"MIMALLOC_PURGE_DELAY": "0", **self.env})

    def variables(self) -> dict[str, str]:
        """The environment variables to add."""
        caps = {name: str(self.native_threads) for name in _THREADS} if self.native_threads else {}
        return {**{k: v for k, v in caps.items() if k not in os.environ}, **self.env}

    def cpus(self, number: int) -> list[int] | None:
        """The CPUs for worker ``number``."""
        if self.cpu_affinity is None or not hasattr(os, "sched_getaffinity"):
            return None
        if not isinstance(self.cpu_affinity, str):
            return [*map(int, self.cpu_affinity)]
        usable = sorted(os.sched_getaffinity(0))
        return [usable[(number - 1) % len(usable)]]


def _check_path(name: str, path: object) -> None:
    """Refuse what is neither None nor a path."""
    if path is not None and not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} must be a path, not {type(path).__name__}")


def _check_names(preload: object) -> None:
    """Refuse what is no sequence of module names."""
    if isinstance(preload, str):
        raise TypeError("preload must be a sequence of module names, not a string")
    if not isinstance(preload, Collection):
        raise TypeError(f"preload must be a sequence of module names, not {type(preload).__name__}")
    for name in cast("Collection[object]", preload):
        if not isinstance(name, str):
            raise TypeError(f"preload must hold names of modules, not {type(name).__name__}")


def _check_variables(env: object) -> None:
    """Refuse what can't be environment variables."""
    if not isinstance(env, Mapping):
        raise TypeError(f"env must be a mapping, not {type(env).__name__}")
    for name, value in cast("Mapping[object, object]", env).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env must map texts to texts, not {name!r} to {value!r}")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"no environment variable can be {name!r}={value!r}")


def _check_cpus(cpus: object) -> None:
    """Refuse what names no CPUs."""
    if cpus is None:
        return
    if isinstance(cpus, str):
        if cpus != "spread":
            raise ValueError(f'cpu_affinity must be CPU numbers or "spread", not {cpus!r}')
        return
    if not isinstance(cpus, Collection):
        raise TypeError(f'cpu_affinity must be CPU numbers or "spread", not {type(cpus).__name__}')
    if not len(cast("Collection[object]", cpus)):
        raise ValueError("cpu_affinity must name a CPU")
    for cpu in cast("Collection[object]", cpus):
        as_int("a CPU of cpu_affinity", cpu, 0)


class ProcessContext(Context):
    """The processes of one pool: what they share in the parent."""

    def __init__(self, factory: ProcessWorkerFactory) -> None:
        hold_standard_descriptors()
        self.slots = factory.concurrency
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._definitions = Definitions(importable)
        self._oom = OomWatch()
        self._packer = Packer(importable)
        self._logs = LogQueue(self._loop)
        python = interpreter(factory.executable, factory.variables(), tuple(factory.preload))
        starter = TemplateStarter if factory.start_method == "template" else ExecStarter
        self._starter: Starter = starter(self._loop, python)
        self._released = False

    def connect(self, number: int, owner: LinkOwner) -> ProcessLink:
        """A link to a new worker process."""
        factory = self._factory
        options = WorkerOptions(
            number=number,
            slots=self.slots,
            cwd=os.fsdecode(factory.cwd) if factory.cwd is not None else None,
            nice=factory.nice,
            cpus=factory.cpus(number),
            memory_limit=factory.memory_limit,
            max_memory=self.max_memory,
            environment=factory.environment,
            bootstrap=factory.bootstrap,
            preloads=bool(factory.preload),
        )
        logs = LogReceiver(self._logs, number)
        return ProcessLink(self._loop, self._starter, self._definitions, options, owner, self._oom, logs)

    def expect(self, task: Any) -> None:
        """Have the template import what the task needs, and have it ready to be sent."""
        self._starter.learn(modules_for(task, self._definitions.importable))
        self._loop.call_soon(define_ahead, task, self._definitions)

    def pack(self, value: Any) -> bytes:
        """A message to a running task, pickled by itself: definitions travel on another way."""
        return self._packer.pack(value)

    def weigh(self, link: Link, is_on: bool) -> None:
        """Have a link know how many bytes each task costs, or no more."""
        from offloop.contexts.weighing import weigh

        weigh(link, is_on)

    async def aclose(self) -> None:
        """End the template, unless another pool uses it; wait for that, all logs, and memory to unmap."""
        self.abandon()
        await self._starter.wait_ended()
        await self._logs.wait_empty()
        await wait_unmapped()

    def abandon(self) -> None:
        """The same without waiting; doing so again does nothing."""
        if not self._released:
            self._released = True
            self._starter.release()
