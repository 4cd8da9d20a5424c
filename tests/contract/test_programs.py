"""Whole programs: code of ``__main__``, output, and what is left when the parent has gone."""

from __future__ import annotations

import os
import signal
import sys
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
def test_what_a_task_logs_and_warns_of_is_shown_once_without_any_setup(factory: str, tmp_path: Path) -> None:
    program = f"""
        import asyncio, logging, warnings, offloop

        def speak():
            logging.getLogger("some").warning("logged")
            warnings.warn("warned of", DeprecationWarning)

        async def main():
            for _ in range(2):
                async with offloop.WorkerPool(1, factory={factory!r}) as pool:
                    await pool.submit(speak)

        asyncio.run(main())
    """
    done = run_script(program, tmp_path)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "logged",
        f"{tmp_path}/script.py:6: DeprecationWarning: warned of",
        '  warnings.warn("warned of", DeprecationWarning)',
        "logged",
    ]


def test_warnings_that_an_option_makes_errors_are_raised_in_the_task(tmp_path: Path) -> None:
    program = """
        import asyncio, warnings, offloop

        def warn(category):
            warnings.warn("fatal", category)
            return "went on"

        async def main():
            warnings.simplefilter("error", UserWarning)
            async with offloop.WorkerPool(1) as pool:
                asyncio.get_running_loop().set_exception_handler(
                    lambda loop, context: print("told", repr(context["exception"]))
                )
                try:
                    await pool.submit(warn, FutureWarning)
                except FutureWarning as error:
                    print("raised", repr(error))
                print(await pool.submit(warn, UserWarning))

        asyncio.run(main())
    """
    done = run_script(program, tmp_path, options=["-W", "error::FutureWarning"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "raised FutureWarning('fatal')",
        "told UserWarning('fatal')",
        "went on",
    ]


def test_records_of_a_workers_own_workers_come_all_the_way(tmp_path: Path) -> None:
    program = """
        import asyncio, logging, offloop

        def speak():
            logging.getLogger("inner").info("from below")

        async def outer():
            logging.getLogger("outer").info("from the middle")
            async with offloop.WorkerPool(1) as pool:
                await pool.submit(speak)

        async def main():
            logging.basicConfig(format="%(name)s %(worker_id)s %(message)s", level=logging.INFO)
            async with offloop.WorkerPool(1) as pool:
                await pool.submit(outer)

        asyncio.run(main())
    """
    done = run_script(program, tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == ["outer 1 from the middle", "inner 1 from below"]


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


def test_a_file_named_as_a_module_that_python_imports_by_itself_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "resource.py").touch()
    program = """
        import asyncio, offloop

        async def main():
            async with offloop.WorkerPool(1) as pool:
                print(await pool.submit(len, "abc"))

        asyncio.run(main())
    """
    done = run_script(program, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


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


@pytest.mark.parametrize("factory", ["process", "thread"])
def test_a_context_variable_of_main_is_set_in_its_tasks(factory: str, tmp_path: Path) -> None:
    program = f"""
        import asyncio, contextvars, offloop

        class User:
            def __init__(self, name):
                self.name = name

        user = contextvars.ContextVar("user", default=User("nobody"))

        def who():
            assert type(user.get()) is User
            return user.get().name

        async def main():
            async with offloop.WorkerPool(1, factory={factory!r}) as pool:
                print(await pool.submit(who))
                user.set(User("anna"))
                print(await pool.submit(who), await pool.map(lambda _: who(), range(2)))
                found = await pool.submit(lambda: user)
                print(found is user)

        asyncio.run(main())
    """
    done = run_script(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["nobody", "anna ['anna', 'anna']", "True"]


#: What the workers of a parent that is about to be killed are doing.
BUSY = {
    "idle": "",
    "asleep": "pool.submit(speak_and, time.sleep, 600)",
    "busy in Python": "pool.submit(speak_and, spin)",
    "busy in C": "pool.submit(speak_and, sum, range(10**12))",
    "stopped": "pool.submit(speak_and, os.kill, 0, signal.SIGSTOP)",
}
LINUX = sys.platform == "linux"


@pytest.mark.parametrize("method", ["template", "exec"])
@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.skipif(not LINUX, reason="elsewhere a worker can't be told of it when it is busy in C")
def test_workers_do_not_outlive_a_killed_parent(busy: str, method: str, tmp_path: Path) -> None:
    program = f"""
        import asyncio, os, signal, time, offloop

        def spin():
            while True:
                pass

        def speak_and(fn, *args):
            print(os.getpid(), flush=True)
            fn(*(arg or os.getpid() for arg in args))

        async def main():
            factory = offloop.ProcessWorkerFactory(start_method={method!r})
            pool = offloop.WorkerPool(1, factory=factory)
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


@pytest.mark.parametrize("method", ["template", "exec"])
@pytest.mark.skipif(not LINUX, reason="elsewhere nothing ends it until it has imported the module")
def test_what_hangs_as_it_starts_does_not_outlive_a_killed_parent(method: str, tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    program = f"""
        import asyncio, sys, offloop

        async def main():
            sys.path.insert(0, {str(tmp_path)!r})
            factory = offloop.ProcessWorkerFactory(start_method={method!r}, preload=["hangs"])
            await offloop.WorkerPool(1, factory=factory).submit(int)

        asyncio.run(main())
    """
    with running_script(program, tmp_path) as parent:
        assert parent.stdout is not None
        hanging = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        assert wait_exit(hanging, 20)
