"""A program in whose children parents of workers die at steps of the protocol, one after the other.

Usage: python -m support.dying_parents FOLDER START_METHOD STEP ...

It is the one that orphans are handed to, and waits for each of them: it would wait for ever for a worker
or a template that outlives its parent.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

from offloop import ProcessWorkerFactory, WorkerPool
from offloop.child import KILL_AT, killpoints
from offloop.scheduling import prefetch
from support.conversing import Conversation
from support.gates import Log

_SET_CHILD_SUBREAPER = 36


async def converse(log: Log, start_method: Any) -> None:
    """Have a whole conversation, in which a worker is lost, too."""
    prefetch.TARGET = float("inf")
    async with WorkerPool(2, factory=ProcessWorkerFactory(start_method=start_method)) as pool:
        conversation = Conversation(pool, log, is_async=False)
        await conversation.speak()
        await asyncio.wait([pool.submit(os._exit, 1)])
        await conversation.be_innocent()


def die_at(step: str, log: Log, start_method: str) -> int:
    """Be a parent that dies at a step, in a process of its own; returns how that ended."""
    child = os.fork()
    if child == 0:
        try:
            os.environ[KILL_AT] = step
            killpoints.install("parent")
            del os.environ[KILL_AT]
            asyncio.run(converse(log, start_method))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for_orphans() -> int:
    """Wait for every process that was left; returns how many there were."""
    count = 0
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return count
        count += 1


def main(folder: str, start_method: str, *steps: str) -> None:
    """Print, for each step, how the parent ended and how many processes it had."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
    for number, step in enumerate(steps):
        log = Log(Path(folder) / str(number))
        code = die_at(step, log, start_method)
        print(json.dumps([step, code, wait_for_orphans(), log.lines()]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
