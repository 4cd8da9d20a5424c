"""Two ways to start a worker process; both report its end."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod

from offloop.contexts.template import Interpreter, Spawned, TemplateProcess, configuration, launch
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

    def spawn(self, fds: tuple[int, int, int], asker: Spawned) -> None:
        """Have the template fork a worker."""
        template = self._template
        if template is not None and template.lost:
            template.release()
            template = None
        if template is None:
            template = self._template = TemplateProcess.obtain(self._loop, self._python, LIMIT)
        template.spawn(fds, asker)

    def release(self) -> None:
        """Let go of the template; its last user ends it."""
        if self._template is not None:
            self._template.release()

    async def wait_ended(self) -> None:
        """Wait until the template is gone, if this was its last user."""
        if self._template is not None:
            await self._template.wait_ended()


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
