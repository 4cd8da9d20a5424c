"""Ctrl-C, which a terminal sends to every process of its foreground (FAULTS 24)."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.bounds import wait_exit
from support.scripts import SCRIPT_BOUND, running_script, script_environment

from offloop.contexts.template import interpreter, launch

#: What the programs share.  Each says "at it" when it can be interrupted.
HEAD = """
import asyncio, os, sys, time
import offloop
from offloop import Executor, ProcessWorkerFactory, WorkerPool

def asleep(word="at it"):
    print(word + "\\n", end="", flush=True)  # in one piece, as others say it too
    time.sleep(600)

def spin():
    while True:
        pass

async def asleep_on_the_loop():
    await asyncio.sleep(600)

def items():
    yield 1
    time.sleep(600)
"""

PROGRAMS = {
    "tasks of all kinds": """
        async with WorkerPool(3) as pool:
            async with asyncio.TaskGroup() as group:
                for fn in spin, asleep_on_the_loop:
                    group.create_task(as_coroutine(pool.submit(fn)))
                await pool.submit(asleep)
    """,
    "more tasks than workers": """
        async with WorkerPool(1) as pool:
            await asyncio.gather(*(pool.submit(asleep, "at it") for _ in range(100)))
    """,
    "the global pool": """
        await offloop.submit(asleep)
    """,
    "short tasks": """
        async with WorkerPool(2) as pool:
            await pool.submit(abs, 1)
            print("at it", flush=True)
            while True:
                await pool.submit(abs, 1)
    """,
    "a map": """
        async with WorkerPool(2) as pool:
            async for _ in pool.map(asleep, ["at it"] * 10, chunksize=1):
                pass
    """,
    "a stream": """
        async with WorkerPool(2) as pool:
            async for _ in pool.stream(items):
                print("at it", flush=True)
    """,
    "workers that start": """
        async with WorkerPool(2) as pool:
            waiting = [pool.submit(spin) for _ in range(2)]
            await asyncio.sleep(0.001)
            print("at it", flush=True)
            await asyncio.gather(*waiting)
    """,
    "interpreters that start": """
        async with WorkerPool(2, factory=ProcessWorkerFactory(start_method="exec")) as pool:
            waiting = [pool.submit(spin) for _ in range(2)]
            await asyncio.sleep(0.001)
            print("at it", flush=True)
            await asyncio.gather(*waiting)
    """,
}


def async_program(body: str, loop: str) -> str:
    run = {"asyncio": "asyncio.run(main())", "uvloop": "import uvloop; uvloop.run(main())"}[loop]
    return f"{HEAD}\nasync def as_coroutine(it): await it\nasync def main():{body}\n{run}\n"


def interrupted(program: str, directory: Path, *, times: int = 1) -> tuple[int, str]:
    """Send Ctrl-C to a program, as a terminal does, when it is at it; returns its exit code and stderr."""
    with running_script(program, directory, stderr=subprocess.PIPE, session=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at it\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        for _ in range(times):
            os.killpg(parent.pid, signal.SIGINT)
        _, stderr = parent.communicate(timeout=SCRIPT_BOUND)
        assert all(wait_exit(process.pid, 20) for process in family)
        return parent.returncode, stderr


def assert_is_one_traceback(text: str) -> None:
    """That of the parent's `KeyboardInterrupt`: with what it came from, and nothing before or behind it."""
    text = text.strip()
    assert text.startswith(("Traceback", "  + Exception Group Traceback")), text
    assert text.splitlines()[-1].strip() == "KeyboardInterrupt", text
    assert text.count("\nKeyboardInterrupt") == 1, text
    # asyncio raises it while it handles the cancellation.
    assert text.count("Traceback") == 1 + text.count("During handling of the above exception"), text


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("situation", PROGRAMS)
def test_ctrl_c_ends_a_program_with_one_traceback(situation: str, loop: str, tmp_path: Path) -> None:
    code, stderr = interrupted(async_program(PROGRAMS[situation], loop), tmp_path)
    assert_is_one_traceback(stderr)
    assert code == -signal.SIGINT


SYNCHRONOUS = {
    "awaited in with": """
        with Executor(2) as executor:
            executor.submit(asleep).result()
    """,
    "with is left": """
        with Executor(1) as executor:
            for _ in range(10):
                executor.submit(asleep)
    """,
    "without with": """
        executor = Executor(2)
        executor.submit(asleep).result()
    """,
    "a map": """
        with Executor(2) as executor:
            list(executor.map(asleep, ["at it"] * 10, chunksize=1))
    """,
    "in run_in_executor": """
        executor = Executor(2)

        async def main():
            await asyncio.get_running_loop().run_in_executor(executor, asleep)

        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("situation", SYNCHRONOUS)
def test_ctrl_c_ends_a_synchronous_program_with_one_traceback(situation: str, tmp_path: Path) -> None:
    body = SYNCHRONOUS[situation].replace("\n        ", "\n")
    code, stderr = interrupted(HEAD + body, tmp_path)
    assert_is_one_traceback(stderr)
    assert code == -signal.SIGINT


def test_ctrl_c_while_the_interpreter_waits_for_an_executor_ends_that(tmp_path: Path) -> None:
    program = HEAD + "executor = Executor(1)\nfor _ in range(10):\n    executor.submit(asleep)\n"
    _, stderr = interrupted(program, tmp_path)
    assert stderr.splitlines()[-1].startswith("KeyboardInterrupt")
    assert stderr.count("Traceback") == 1


def test_further_ctrl_cs_leave_nothing_behind_either(tmp_path: Path) -> None:
    program = async_program("""
        pool = WorkerPool(2)
        await asyncio.gather(pool.submit(spin), pool.submit(asleep))
    """, "asyncio")  # fmt: skip
    code, stderr = interrupted(program, tmp_path, times=3)
    # One that comes while asyncio tidies up may keep it from that: `asyncio.run` then ends with this error.
    assert code == -signal.SIGINT or "RuntimeError: Cannot close a running event loop" in stderr


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_ctrl_c_in_a_loop_that_handles_no_signals_leaves_nothing_behind(loop: str, tmp_path: Path) -> None:
    """The interrupt is raised in the midst of anything, and the program ends without a word to its pool."""
    module = f"import {loop}\nloop = {loop}.new_event_loop()"
    program = f"{HEAD}\n{module}\npool = WorkerPool(2)\nasync def main(): await pool.submit(asleep)\n"
    code, stderr = interrupted(program + "loop.run_until_complete(main())", tmp_path)
    assert stderr.count("Traceback") == 1
    assert code == -signal.SIGINT


def test_ctrl_c_typed_in_a_terminal_ends_a_program(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(async_program(PROGRAMS["tasks of all kinds"], "asyncio"))
    terminal, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, str(script)],
            env=script_environment(),
            preexec_fn=lambda: os.login_tty(theirs),
        ) as parent:
            os.close(theirs)
            shown = _read_until(terminal, "at it")
            os.write(terminal, b"\x03")
            shown += _read_to_end(terminal)
            assert parent.wait(SCRIPT_BOUND) == -signal.SIGINT
    finally:
        os.close(terminal)
    after = shown.replace("\r", "").partition("at it")[2]  # the interrupt may swallow the line's end
    assert_is_one_traceback(after.replace("^C", ""))


def _read_until(fd: int, word: str) -> str:
    shown = ""
    while word not in shown:
        shown += os.read(fd, 4096).decode()
    return shown


def _read_to_end(fd: int) -> str:
    shown = ""
    while True:
        try:
            data = os.read(fd, 4096)
        except OSError:  # the last process of the terminal is gone
            return shown
        shown += data.decode()


def test_an_interpreter_that_starts_can_not_be_interrupted() -> None:
    """From its very beginning: what it does with a signal before it ignores it would be a traceback."""
    code = "from offloop.child.template import take_signals; take_signals(); sys.exit(3)"
    process, lifeline = launch(interpreter(None, {}, ()), code, ())
    process.send_signal(signal.SIGINT)
    assert process.wait(SCRIPT_BOUND) == 3
    lifeline.close()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_a_task_starts_can_be_interrupted(tmp_path: Path) -> None:
    program = """
        import asyncio, offloop, subprocess, sys

        def start():
            code = "import signal; print('at it', flush=True); signal.pause()"
            return subprocess.run([sys.executable, "-c", code]).returncode

        async def main():
            pool = offloop.pool(offloop.WorkerPool(1))
            execution = asyncio.ensure_future(pool.submit(start))
            asyncio.get_running_loop().add_signal_handler(2, lambda: None)
            print(await execution)

        asyncio.run(main())
    """
    with running_script(program, tmp_path, stderr=subprocess.PIPE, session=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at it\n"
        os.killpg(parent.pid, signal.SIGINT)
        stdout, _ = parent.communicate(timeout=SCRIPT_BOUND)
        assert stdout == f"{-signal.SIGINT}\n"
