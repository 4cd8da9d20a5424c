"""Workers on a cluster, whatever its engine: what a pool's workers share in the parent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from offloop.checks import check_seconds
from offloop.contexts.cluster_link import ClusterLink
from offloop.contexts.engine import Engine
from offloop.contexts.foresight import define_ahead, modules_for
from offloop.contexts.imports import importable
from offloop.contexts.logs import LogQueue, LogReceiver
from offloop.contexts.messages import Order, pack
from offloop.contexts.packing import Packer
from offloop.contexts.setup import WorkerOptions
from offloop.environment import Environment
from offloop.link import Context, LinkOwner
from offloop.wire.definitions import Definitions
from offloop.worker import WorkerFactory


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(WorkerFactory):
    """The options that workers on every kind of cluster have.

    Args:
        environment: class or zero-argument factory of the worker's `Environment`.
        bootstrap: run before the first task: a callable given the environment
            (sync or async), or a path to a Python file on the worker's machine.
        concurrency: how many async tasks of one worker may overlap.
        preload: names of modules that are imported once on each machine.
        env: environment variables to add.
        start_timeout: seconds that a worker may take to start, once the engine
            was asked for it; then it counts as one that could not start.
        lost_after: seconds without a word after which a worker counts as lost.
            A worker that hears nothing from here ends itself after twice as long.
    """

    limits_memory: ClassVar[bool] = True
    latency: ClassVar[float] = 0.02

    environment: Callable[[], Environment] | None = None
    bootstrap: Callable[[Environment], Any] | str | os.PathLike[str] | None = None
    concurrency: int = 1
    preload: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    start_timeout: float = 60.0
    lost_after: float = 10.0

    def __post_init__(self) -> None:
        self.check_common(self.environment, self.bootstrap, self.concurrency)
        if isinstance(self.preload, str):
            raise TypeError("preload must be a sequence of module names, not a string")
        for name in ("start_timeout", "lost_after"):
            object.__setattr__(self, name, check_seconds(name, getattr(self, name)))

    def engine(self) -> Engine:
        """Connect to the cluster; what takes long is done later, in another thread."""
        raise NotImplementedError

    def context(self) -> Context:
        """The context for one pool."""
        return ClusterContext(self, self.engine())


class Foreseen:
    """Modules that workers needed, or will: those that are started from now on find them loaded."""

    def __init__(self) -> None:
        self.modules: dict[str, None] = {}

    def learn(self, modules: Sequence[str]) -> None:
        """Add these."""
        self.modules.update(dict.fromkeys(modules))


class ClusterContext(Context):
    """The workers of one pool on a cluster.

    Args:
        factory: their options.
        engine: the connection, which is closed with this.
    """

    def __init__(self, factory: ClusterOptions, engine: Engine) -> None:
        self.slots = factory.concurrency
        self._factory = factory
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._definitions = Definitions(importable)
        self._packer = Packer(importable)
        self._logs = LogQueue(self._loop)
        self._foreseen = Foreseen()
        self._released = False
        self._answering: set[int] = set()

    def connect(self, number: int, owner: LinkOwner) -> ClusterLink:
        """A link to a new worker."""
        factory = self._factory
        options = WorkerOptions(
            number=number,
            slots=self.slots,
            cwd=None,
            nice=0,
            cpus=None,
            memory_limit=None,
            max_memory=self.max_memory,
            environment=factory.environment,
            bootstrap=factory.bootstrap,
            is_remote=True,
        )
        logs = LogReceiver(self._logs, number)
        timing = factory.start_timeout, factory.lost_after
        return ClusterLink(
            self._loop,
            self._engine,
            self._definitions,
            options,
            owner,
            logs,
            self._order(),
            timing,
            self._foreseen,
            self._answering,
        )

    def _order(self) -> bytes:
        factory = self._factory
        order = Order(
            self.slots,
            tuple(factory.preload),
            dict(factory.env),
            float(factory.lost_after),
            tuple(self._foreseen.modules),
        )
        return pack(order)

    def expect(self, task: Any) -> None:
        """Have the workers' templates import what the task needs, and have it ready to be sent."""
        self._foreseen.learn(modules_for(task, self._definitions.importable))
        self._loop.call_soon(define_ahead, task, self._definitions)

    def pack(self, value: Any) -> bytes:
        """A message to a running task, pickled by itself: definitions travel on another way."""
        return self._packer.pack(value)

    async def aclose(self) -> None:
        """End the connection, and wait until all logs are handled."""
        if not self._released:
            self._released = True
            await asyncio.wrap_future(self._engine.close())
        await self._logs.wait_empty()

    def abandon(self) -> None:
        """The same without waiting; doing so again does nothing."""
        if not self._released:
            self._released = True
            self._engine.close()
