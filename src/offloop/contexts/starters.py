"""Two ways to start a worker process; both report its end."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod

from offloop.contexts.template import (
    Interpreter,
    Spawned,
    TemplateLost,
    TemplateProcess,
    configuration,
    launch,
)
from offloop.contexts.watch import ExitWatch
from offloop.errors import WorkerStartError

#: The largest payload accepted, in bytes: more than the machine's memory is no message.
LIMIT = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

_RUN = (
    "import offloop.child.template as t; from offloop.child.process import leave; "
    "leave(t.run_alone(*map(int, sys.argv[1:])))"
)


class Starter(ABC):
    """Starts worker processes for one context."""

    @abstractmethod
    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Start a worker with these descriptors (data, control, ledger); ``asker`` hears what came of it."""

    def release(self) -> None:
        """No more workers will be started."""

    async def wait_ended(self) -> None:
        """Wait until nothing of the starter's own is left."""


class TemplateStarter(Starter):
    """Forks workers from this loop's template for the interpreter; falls back to `ExecStarter`.

    A template that died is started again with the next worker.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, python: Interpreter) -> None:
        self._loop = loop
        self._python = python
        self._template: TemplateProcess | None = None
        self._alone = ExecStarter(loop, python)

    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Have the template fork a worker; should it die meanwhile, start the worker without it."""
        template = self._template
        if template is not None and template.lost:
            template.release()
            template = None
        if template is None:
            template = self._template = TemplateProcess.obtain(self._loop, self._python, LIMIT)
        template.spawn(fds, _WithoutTemplate(self._alone, fds, asker))

    def release(self) -> None:
        """Let go of the template; its last user ends it."""
        if self._template is not None:
            self._template.release()

    async def wait_ended(self) -> None:
        """Wait until the template is gone, if this was its last user."""
        if self._template is not None:
            await self._template.wait_ended()


class _WithoutTemplate:
    """Passes on what a template says of a worker; if it is lost first, starts the worker on its own."""

    def __init__(self, alone: Starter, fds: tuple[int, int, int], asker: Spawned) -> None:
        self._alone = alone
        self._fds = (os.dup(fds[0]), os.dup(fds[1]), os.dup(fds[2]))
        self._asker = asker
        self.ended = asker.ended

    def spawned(self, pid: int, pidfd: int) -> None:
        """The template forked it."""
        self._close()
        self._asker.spawned(pid, pidfd)

    def not_spawned(self, error: BaseException) -> None:
        """The template could not fork it, or is gone."""
        if isinstance(error, TemplateLost):
            self._alone.spawn(self._fds, self._asker)
            self._close()
        else:
            self._close()
            self._asker.not_spawned(error)

    def _close(self) -> None:
        for fd in self._fds:
            os.close(fd)


class ExecStarter(Starter):
    """Starts a fresh interpreter for each worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, python: Interpreter) -> None:
        self._loop = loop
        self._python = python

    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Start an interpreter that becomes the worker."""
        read, write = os.pipe()
        try:
            process = launch(self._python, _RUN, (read, *fds))
            with open(write, "wb", closefd=False) as pipe:
                pipe.write(configuration(self._python, LIMIT))
        except OSError as error:
            asker.not_spawned(WorkerStartError(f"a worker process could not be started: {error}"))
            return
        finally:
            os.close(read)
            os.close(write)
        watch = ExitWatch(self._loop, process)
        asker.spawned(process.pid, -1)
        watch.begin()
        watch.ended.add_done_callback(lambda ended: asker.ended(_wait_status(ended.result()), None))


def _wait_status(returncode: int) -> int:
    """A return code as the status that ``waitpid`` gives."""
    return returncode << 8 if returncode >= 0 else -returncode
