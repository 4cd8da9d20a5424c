"""Whole programs: code of ``__main__``, output, and what is left when the parent has gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from support.bounds import wait_exit
from support.scripts import run_script, running_script

#: A program with no ``if __name__ == "__main__"`` guard.
UNGUARDED = """
import asyncio
import offloop

print("started")
factor = 2

def scale(number):
    return number * factor

class Box:
    def __init__(self, content):
        self.content = content

class Open(offloop.Task):
    def __init__(self, box):
        self.box = box

    def run(self, environment):
        return Box(scale(self.box.content))

class OwnError(Exception):
    pass

def fail():
    raise OwnError("mine")

async def main():
    global factor
    async with offloop.WorkerPool(2, factory={factory!r}) as pool:
        print(await pool.submit(scale, 1), await pool.map(scale, range(3)))
        box = await pool.enqueue(Open(Box(5)))
        print(type(box) is Box, box.content)
        try:
            await pool.submit(fail)
        except OwnError as error:
            print("caught", error)
        factor = 10
        print(await pool.submit(scale, 1))

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["file", "-c", "stdin"])
@pytest.mark.parametrize("factory", ["process", "thread"])
def test_code_of_main_runs_without_a_guard(factory: str, how: str, tmp_path: Path) -> None:
    done = run_script(UNGUARDED.replace("{factory!r}", repr(factory)), tmp_path, how)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["started", "2 [0, 2, 4]", "True 10", "caught mine", "10"]


@pytest.mark.parametrize("factory", ["process", "thread"])
def test_what_a_task_prints_goes_where_the_parents_output_goes(factory: str, tmp_path: Path) -> None:
    program = f"""
        import asyncio, sys, offloop

        def speak(number):
            print("out", number)
            print("err", number, file=sys.stderr)

        async def main():
            async with offloop.WorkerPool(1, factory={factory!r}) as pool:
                for number in range(3):
                    await pool.submit(speak, number)

        asyncio.run(main())
    """
    done = run_script(program, tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["out 0", "out 1", "out 2"]
    assert done.stderr.splitlines() == ["err 0", "err 1", "err 2"]


def test_a_program_that_forgets_its_pool_leaves_no_process(tmp_path: Path) -> None:
    program = """
        import asyncio, os, offloop

        async def main():
            global pool
            pool = offloop.WorkerPool(1, factory="process")
            print(await pool.submit(os.getpid))

        asyncio.run(main())
    """
    done = run_script(program, tmp_path)
    assert done.returncode == 0
    assert wait_exit(int(done.stdout), 20)


#: What the workers of a parent that is about to be killed are doing.
BUSY = {
    "idle": "",
    "asleep": "pool.submit(speak_and, time.sleep, 600)",
    "busy in Python": "pool.submit(speak_and, spin)",
    "busy in C": "pool.submit(speak_and, sum, range(10**12))",
}


@pytest.mark.parametrize("busy", BUSY)
def test_workers_do_not_outlive_a_killed_parent(busy: str, tmp_path: Path) -> None:
    program = f"""
        import asyncio, os, time, offloop

        def spin():
            while True:
                pass

        def speak_and(fn, *args):
            print(os.getpid(), flush=True)
            fn(*args)

        async def main():
            pool = offloop.WorkerPool(1, factory="process")
            await pool.submit(speak_and, int)
            waiting = {BUSY[busy] or "None"}
            await asyncio.sleep(600)

        asyncio.run(main())
    """
    with running_script(program, tmp_path) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        if BUSY[busy]:
            assert int(parent.stdout.readline()) == worker
        family = {worker, *(process.pid for process in psutil.Process(parent.pid).children(recursive=True))}
        os.kill(parent.pid, signal.SIGKILL)
        assert all(wait_exit(pid, 20) for pid in family)
