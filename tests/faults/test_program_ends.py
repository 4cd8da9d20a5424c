"""How a program may end otherwise than by Ctrl-C: nothing is left, and nothing said that was not meant."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from support.bounds import wait_exit
from support.scripts import SCRIPT_BOUND, run_script, running_script

DRAINS = """
import asyncio, os, signal, time
from offloop import WorkerPool

def work(number):
    if number < 2:
        print("at it", flush=True)
    time.sleep(0.05)
    return number

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    pool = WorkerPool(2)
    executions = [pool.submit(work, number) for number in range(10)]
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await pool.shutdown()
        print([execution.result() for execution in executions])
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_handler_of_sigterm_may_drain_the_pool(loop: str, tmp_path: Path) -> None:
    program = f"{DRAINS}\nimport {loop}\n{loop}.run(main())"
    with running_script(program, tmp_path, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at it\n"
        parent.send_signal(signal.SIGTERM)
        stdout, stderr = parent.communicate(timeout=SCRIPT_BOUND)
    assert (parent.returncode, stderr) == (0, "")
    assert stdout.splitlines()[-1] == str([*range(10)])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_nobody_handles_ends_workers_too(number: signal.Signals, tmp_path: Path) -> None:
    program = """
        import asyncio, offloop, resource, sys, time

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        def work():
            print("at it", flush=True)
            time.sleep(600)

        async def main():
            async with offloop.WorkerPool(1) as pool:
                await pool.submit(work)

        asyncio.run(main())
    """
    with running_script(program, tmp_path, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "at it\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(number)
        _, stderr = parent.communicate(timeout=SCRIPT_BOUND)
        assert all(wait_exit(process.pid, 20) for process in family)
    assert (parent.returncode, stderr) == (-number, "")


#: What ends the program, its exit code, and the last line of its stderr.
ENDS = {
    "sys.exit": ("sys.exit(3)", 3, ""),
    "an exception": ("raise ValueError('as planned')", 1, "ValueError: as planned"),
    "os._exit": ("os._exit(4)", 4, ""),
    "SIGKILL": ("os.kill(os.getpid(), 9)", -9, ""),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("end", ENDS)
def test_a_program_may_end_in_the_midst_of_its_tasks(end: str, loop: str, tmp_path: Path) -> None:
    statement, code, said = ENDS[end]
    program = f"""
        import asyncio, offloop, os, {loop}, sys, time

        async def main():
            async with offloop.WorkerPool(2) as pool:
                print(*await asyncio.gather(*(pool.submit(os.getpid) for _ in range(2))), flush=True)
                waiting = [pool.submit(time.sleep, 600) for _ in range(5)]
                await asyncio.sleep(0.01)
                {statement}

        {loop}.run(main())
    """
    done = run_script(program, tmp_path)
    assert done.returncode == code
    assert (done.stderr.splitlines() or [""])[-1] == said
    assert done.stderr.count("Traceback") == bool(said)
    assert all(wait_exit(int(pid), 20) for pid in done.stdout.split())


def test_a_pool_may_be_used_in_a_daemon_thread_that_outlives_the_program(tmp_path: Path) -> None:
    program = """
        import asyncio, offloop, os, threading, time

        begun = threading.Event()

        async def main():
            async with offloop.WorkerPool(1) as pool:
                print(await pool.submit(os.getpid), flush=True)
                waiting = pool.submit(time.sleep, 600)
                begun.set()
                await waiting

        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        begun.wait()
    """
    done = run_script(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert wait_exit(int(done.stdout), 20)


def test_a_pool_may_be_used_by_atexit(tmp_path: Path) -> None:
    program = """
        import asyncio, atexit, offloop

        async def main():
            async with offloop.WorkerPool(1) as pool:
                print(await pool.submit(abs, -1))

        atexit.register(lambda: asyncio.run(main()))
    """
    done = run_script(program, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_what_a_task_registered_runs_when_its_worker_ends(tmp_path: Path) -> None:
    program = """
        import asyncio, atexit, offloop

        def register():
            atexit.register(print, "at the worker's exit", flush=True)

        async def main():
            async with offloop.WorkerPool(1) as pool:
                await pool.submit(register)

        asyncio.run(main())
    """
    done = run_script(program, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "at the worker's exit\n", "")


#: What a forked child does with the pool that it finds, and what it says.
IN_THE_CHILD = {
    "leaves it": ("sys.exit(0)", ""),
    "leaves it by an error": ("raise ValueError", ""),
    "kills it": ("pool.kill()", ""),
    "cancels what runs": ("running.cancel()", ""),
    "shuts it down": ("await pool.shutdown()", "RuntimeError this worker or pool belongs to the process"),
    "submits": ("pool.submit(abs, 1)", "RuntimeError this worker or pool belongs to the process"),
    "drops it": ("pool = leave = running = Kept.pool = None; return gc.collect()", ""),
    "uses another": ("another(work)", "made there"),
    "opens a loop": ("another(pool.shutdown)", "RuntimeError this worker or pool belongs to the process"),
}


FORKS = """
import asyncio, gc, os, sys, threading, time, warnings
from offloop import WorkerPool
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: this process may have threads

class Kept: pool = None

async def work():
    async with WorkerPool(1) as own:
        print(await own.submit(str, "made there"), flush=True)

def another(fn):
    failed = []
    def run():
        try: asyncio.run(as_coroutine(fn()))
        except Exception as error: failed.append(error)
    thread = threading.Thread(target=run)
    thread.start(); thread.join()
    for error in failed: raise error

async def as_coroutine(it): await it

async def in_the_child(pool, running):
    leave = pool.__aexit__  # as if the fork had been in ``async with``
    try:
        try: STATEMENT
        except BaseException as error: await leave(type(error), error, None); raise
        else: await leave(None, None, None)
    except (SystemExit, ValueError): pass
    except Exception as error: print(type(error).__name__, error, flush=True)

def at(gate):
    os.read(os.open(gate, os.O_RDONLY), 1)
    return "as if nothing had been"

async def main():
    os.mkfifo(GATE)
    Kept.pool = WorkerPool(1)
    pid = await Kept.pool.submit(os.getpid)
    running = Kept.pool.submit(at, GATE)
    gate = os.open(GATE, os.O_RDWR)
    child = os.fork()
    if child == 0:
        try:
            try: in_the_child(Kept.pool, running).send(None)
            except StopIteration: pass
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.write(gate, b"x")
    print(await running)
    print(await Kept.pool.submit(os.getpid) == pid)
    print(await Kept.pool.shutdown())

asyncio.run(main())
"""


@pytest.mark.parametrize("what", IN_THE_CHILD)
def test_a_forked_child_leaves_its_parents_workers_alone(what: str, tmp_path: Path) -> None:
    statement, said = IN_THE_CHILD[what]
    gate = repr(str(tmp_path / "gate"))
    done = run_script(FORKS.replace("STATEMENT", statement).replace("GATE", gate), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    *first, second, third, fourth = done.stdout.splitlines()
    assert "\n".join(first).startswith(said)
    assert bool(first) == bool(said)
    assert (second, third, fourth) == ("as if nothing had been", "True", "0")


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2)])
def test_a_program_without_standard_files_has_workers_all_the_same(
    closed: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"""
    import os, sys
    if not sys.argv[1:]:
        for descriptor in {closed}:
            os.close(descriptor)
        os.execv(sys.executable, [sys.executable, __file__, "again"])

    import asyncio
    from offloop import WorkerPool

    async def main():
        async with WorkerPool(2) as pool:
            return await asyncio.gather(*(pool.submit(pow, 2, number) for number in range(4)))

    results = asyncio.run(main())
    with open("results", "w") as file:
        print(results, file=file)
    """
    monkeypatch.chdir(tmp_path)
    assert run_script(program, tmp_path).returncode == 0
    assert (tmp_path / "results").read_text() == "[1, 2, 4, 8]\n"
