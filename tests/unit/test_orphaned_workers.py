"""A worker whose template died: it is on its way out, but what it begins until it is gone counts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from offloop.contexts.imports import importable
from offloop.contexts.process_link import ProcessLink
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.starters import Starter
from offloop.contexts.template import TemplateLost
from offloop.link import Exit
from offloop.shm.ledger import SLOTS, Ledger
from offloop.wire.definitions import Definitions

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="there are no pidfds")


class Owner:
    """Is told of the end."""

    def __init__(self) -> None:
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def link_result(self, *result: object) -> None:
        raise AssertionError("there is none")

    def link_delivered(self) -> None:
        """Nothing was."""

    def link_exited(self, exit: Exit) -> None:
        self.exited.set_result(exit)


class LongLived(Starter):
    """Starts a process that ends only when it is killed, and keeps its page."""

    def spawn(self, fds: tuple[int, int, int], asker: Any) -> None:
        self.ledger = Ledger(fds[2])
        self.process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        asker.spawned(self.process.pid, -1, self.process.kill)


class LosesItsTemplate(LongLived):
    """Is lost before it tells of a worker; what starts alone is another."""

    def __init__(self) -> None:
        self.other = LongLived()

    @property
    def alone(self) -> Starter:
        return self.other

    def spawn(self, fds: tuple[int, int, int], asker: Any) -> None:
        asyncio.get_running_loop().call_soon(asker.not_spawned, TemplateLost("it died"))


def link_to(starter: Starter, owner: Any) -> ProcessLink:
    nothing: Any = SimpleNamespace(verdict=lambda *_, **__: None)
    options = WorkerOptions(number=1, slots=1, environment=None, bootstrap=None)
    loop = asyncio.get_running_loop()
    return ProcessLink(loop, starter, Definitions(importable), options, owner, nothing, nothing)


async def test_it_is_killed_and_what_it_began_until_then_is_known() -> None:
    starter, owner = LongLived(), Owner()
    link = link_to(starter, owner)
    link.start()
    link.ended(None, None)
    starter.ledger.words[SLOTS] = 7  # it goes on for a moment, and begins a task
    exit = await owner.exited
    assert starter.process.wait() == -signal.SIGKILL
    assert (exit.started, exit.code) == ([7], -signal.SIGKILL)
    starter.ledger.close()


async def test_one_that_nobody_told_of_is_replaced_and_gets_sockets_of_its_own() -> None:
    starter, owner = LosesItsTemplate(), Owner()
    link = link_to(starter, owner)
    link.start()
    first = link._data
    while link.pid is None:
        await asyncio.sleep(0)
    assert link.pid == starter.other.process.pid
    assert first.fileno() == -1
    assert link._data is not first
    link.kill()
    starter.other.process.wait()
    await owner.exited
    starter.other.ledger.close()
