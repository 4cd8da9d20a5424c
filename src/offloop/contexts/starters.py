"""Two ways to start a worker process; both report its end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

from offloop.contexts.template import (
    Interpreter,
    Spawned,
    TemplateProcess,
    configuration,
    launch,
    rights,
)
from offloop.contexts.watch import ExitWatch
from offloop.cpus import physical_memory
from offloop.errors import WorkerStartError

#: The largest payload accepted, in bytes: more than the machine's memory is no message.
LIMIT = physical_memory()

_RUN = (
    "import offloop.child.template as t; from offloop.child.process import leave; "
    "leave(t.run_alone(*map(int, sys.argv[1:])))"
)


class Starter(ABC):
    """Starts worker processes for one context."""

    @abstractmethod
    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Start a worker with these descriptors (data, control, ledger); ``asker`` hears what came of it."""

    @property
    def alone(self) -> Starter:
        """What starts workers without a template, should that be lost; by default this."""
        return self

    def learn(self, modules: Sequence[str]) -> None:
        """A worker had to import these modules, or will have to; others may need them as well."""

    def release(self) -> None:
        """No more workers will be started."""

    async def wait_ended(self) -> None:
        """Wait until nothing of the starter's own is left."""


class TemplateStarter(Starter):
    """Forks workers from this loop's template for the interpreter.

    A template that died is started again with the next worker; those that it was asked for
    and did not tell of are to be started ``alone``.  One that has other rights than this process
    has by now forks no more, and ends with its last worker.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, python: Interpreter) -> None:
        self._loop = loop
        self._python = python
        self._template: TemplateProcess | None = None
        self._former: list[TemplateProcess] = []  # which have workers yet
        self._foreseen: dict[str, None] = {}  # an ordered set

    @property
    def alone(self) -> Starter:
        """Starts workers as fresh interpreters."""
        return ExecStarter(self._loop, self._python)

    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Have the template fork a worker; should it die meanwhile, ``asker`` hears of a `TemplateLost`."""
        python = self._python._replace(rights=rights())
        template = self._template
        if template is not None and (template.lost or template.python != python):
            template.retire()
            self._former = [each for each in (*self._former, template) if not each.dropped()]
            template = None
        if template is None:
            template = self._template = TemplateProcess.obtain(self._loop, python, LIMIT)
            template.preload(list(self._foreseen))
        template.spawn(fds, asker)

    def learn(self, modules: Sequence[str]) -> None:
        """Have the template import them, where that is safe, before it forks the next worker."""
        self._foreseen.update(dict.fromkeys(modules))
        if self._template is not None:
            self._template.preload(modules)

    def release(self) -> None:
        """Let go of the template; its last user ends it."""
        for template in self._all():
            template.release()

    async def wait_ended(self) -> None:
        """Wait until the template is gone, if this was its last user."""
        for template in self._all():
            await template.wait_ended()

    def _all(self) -> list[TemplateProcess]:
        return [*self._former, *([] if self._template is None else [self._template])]


class ExecStarter(Starter):
    """Starts a fresh interpreter for each worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, python: Interpreter) -> None:
        self._loop = loop
        self._python = python

    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Start an interpreter that becomes the worker."""
        try:
            launched = launch(self._python, _RUN, fds)
        except OSError as error:
            asker.not_spawned(WorkerStartError(f"a worker process could not be started: {error}"))
            return
        launched.lifeline.tell(configuration(self._python, LIMIT))
        watch = ExitWatch(self._loop, *launched)
        asker.spawned(launched.process.pid, -1, launched.lifeline.close)
        watch.begin()
        watch.ended.add_done_callback(lambda ended: asker.ended(ended.result(), None))
