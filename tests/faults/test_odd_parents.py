"""Parents that do as they like with children, time and their event loop."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from matrix import CONTEXTS
from support import no_pidfds, tasks
from support.scripts import run_script

from offloop import ProcessWorkerFactory, TaskTimeout, WorkerCrashed, WorkerPool

REAPING = """
import asyncio, os, signal, sys, threading, time
from offloop import ProcessWorkerFactory, WorkerCrashed, WorkerPool

def reap_all():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)

if {how!r} == "ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
else:
    threading.Thread(target=reap_all, daemon=True).start()

async def main():
    async with WorkerPool(2, factory=ProcessWorkerFactory(start_method={method!r})) as pool:
        for _ in range({times}):
            crash, *good = pool.submit(os._exit, 3), pool.submit(abs, -1), pool.submit(abs, -2)
            try:
                await crash
            except WorkerCrashed as error:
                assert error.exit_code in (3, None), error.exit_code
            else:
                raise AssertionError("no crash")
            assert await asyncio.gather(*good) == [1, 2]
        await pool.recycle()
        assert await pool.submit(abs, -3) == 3
    print("done")

asyncio.run(main())
"""


@pytest.mark.parametrize("method", ["template", "exec"])
@pytest.mark.parametrize("how", ["ignored", "reaped"])
def test_a_parent_that_ignores_its_children_or_reaps_them_all(
    how: str, method: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    times = 40 if request.config.getoption("--in-full") else 3
    done = run_script(REAPING.format(how=how, method=method, times=times), tmp_path)
    assert done.stdout == "done\n", done.stderr
    assert not done.stderr


BLOCKED = """
import asyncio, os, signal, threading, time

blocked = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # as programs do that wait for signals by `sigwait`

from offloop import ProcessWorkerFactory, WorkerCrashed, WorkerPool, current_task

def sleep():
    say = current_task().channel.send  # in a thread: in this one it would be interrupted without a signal
    threading.Thread(target=say, args=(os.getpid(),)).start()
    time.sleep(1000)

async def main():
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method={method!r})) as pool:
        execution = pool.submit(sleep)
        pid = await execution.channel.receive()
        execution.cancel()
        await asyncio.wait([execution])
        assert await pool.submit(os.getpid) == pid, "it was interrupted, and not killed"
        try:
            await pool.submit(os._exit, 3)
        except WorkerCrashed as error:
            assert error.exit_code == 3, error.exit_code
        assert await pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()) < blocked
    print("done")

asyncio.run(main())
"""


@pytest.mark.parametrize("method", ["template", "exec"])
def test_a_parent_that_blocks_all_signals(method: str, tmp_path: Path) -> None:
    done = run_script(BLOCKED.format(method=method), tmp_path)
    assert done.stdout == "done\n", done.stderr


BROKEN_PIPES = """
import asyncio, os, select, signal
from offloop import WorkerPool
from offloop.contexts.watch import Lifeline

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as command-line filters do

def kill(pid):
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [])  # the event loop knows nothing of it yet
    os.close(pidfd)

async def main():
    reading, writing = os.pipe()
    os.close(reading)
    Lifeline(writing).tell(b"nobody reads this")
    async with WorkerPool(1) as pool, WorkerPool(1) as other:
        kill(await pool.submit(os.getpid))
        assert await pool.submit(abs, -1) == 1
        kill(await pool.submit(os.getppid))
        assert await other.submit(abs, -2) == 2
    print("done")

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="it waits for ends by pidfds")
def test_a_parent_that_a_broken_pipe_would_end_outlives_its_workers(tmp_path: Path) -> None:
    done = run_script(BROKEN_PIPES, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


DELETED = """
import asyncio, os, tempfile
from offloop import ProcessWorkerFactory, WorkerPool

directory = tempfile.mkdtemp()
os.chdir(directory)
os.rmdir(directory)

async def main():
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method={method!r})) as pool:
        print(await pool.submit(abs, -1))

asyncio.run(main())
"""


@pytest.mark.parametrize("method", ["template", "exec"])
def test_a_parent_whose_directory_was_deleted(method: str, tmp_path: Path) -> None:
    done = run_script(DELETED.format(method=method), tmp_path)
    assert done.stdout == "1\n", done.stderr
    assert not done.stderr


MOVING = """
import asyncio, os
from offloop import ProcessWorkerFactory, WorkerPool
import beside, inner

async def main():
    async with WorkerPool(1) as pool:
        print(await pool.submit(beside.where))
        os.chdir("elsewhere")
        print(await pool.submit(beside.where), await pool.submit(inner.where))
        await pool.recycle()
        print(await pool.submit(beside.where), await pool.submit(inner.where))
        for cwd in None, "..", "deeper":
            async with WorkerPool(1, factory=ProcessWorkerFactory(cwd=cwd)) as other:
                print(await other.submit(beside.where), await other.submit(inner.where))
        import deep
        print(await pool.submit(deep.where))

asyncio.run(main())
"""


def test_a_parent_that_changes_its_directory_where_its_path_is_relative(tmp_path: Path) -> None:
    where = "import os\n\ndef where():\n    return os.path.basename(os.getcwd())\n"
    (tmp_path / "home" / "elsewhere" / "deeper").mkdir(parents=True)
    for name in ("beside.py", "inner.py", "elsewhere/deep.py"):
        (tmp_path / "home" / name).write_text(where)
    command = f"import os, sys; os.chdir({str(tmp_path / 'home')!r}); sys.path.insert(0, '')\n{MOVING}"
    done = run_script(command, tmp_path, "-c")
    assert not done.stderr
    assert done.stdout.splitlines() == [
        "home",
        "home home",
        "elsewhere elsewhere",
        "elsewhere elsewhere",
        "home home",
        "deeper deeper",
        "elsewhere",
    ]


async def check_without_pidfds(factory: ProcessWorkerFactory) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        with pytest.raises(WorkerCrashed) as caught:
            await pool.submit(os._exit, 3)
        assert caught.value.exit_code == 3
        assert (await pool.submit(os.getppid) == os.getpid()) == (factory.start_method == "exec")


@pytest.mark.parametrize("method", ["template", "exec"])
async def test_a_parent_without_pidfds_hears_of_its_workers_ends(
    method: Literal["template", "exec"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    await check_without_pidfds(ProcessWorkerFactory(start_method=method))


@pytest.mark.parametrize("method", ["template", "exec"])
async def test_pidfds_that_the_system_refuses_are_as_good_as_none(
    method: Literal["template", "exec"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pidfd_open", no_pidfds.refuse, raising=False)
    preload, env = [no_pidfds.__name__], {no_pidfds.VARIABLE: "1"}
    await check_without_pidfds(ProcessWorkerFactory(start_method=method, preload=preload, env=env))


@pytest.mark.filterwarnings("ignore:no shared memory:RuntimeWarning")
@pytest.mark.parametrize("method", ["template", "exec"])
async def test_a_parent_that_may_have_no_memfd_has_workers(
    method: Literal["template", "exec"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "memfd_create", no_pidfds.refuse, raising=False)
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method=method)) as pool:
        with pytest.raises(WorkerCrashed):
            await pool.submit(os._exit, 3)
        assert await pool.submit(len, bytes(1 << 20)) == 1 << 20


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_blocked_event_loop_is_no_timeout_and_no_death(
    same_loop: Any, context: str, request: pytest.FixtureRequest
) -> None:
    seconds = 10.0 if request.config.getoption("--in-full") else 0.3

    async def block() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context](), cancel_grace=0.01, idle_timeout=0.01) as pool:
            before = await pool.submit(tasks.identity)
            execution = pool.options(timeout=0.2).submit(tasks.identity)
            await asyncio.sleep(0)
            time.sleep(seconds)  # as a program should not, and some do
            assert await execution == before
            assert pool.statistics().crashes == 0

    same_loop(block())


@pytest.mark.parametrize("context", ["process", "thread"])
def test_a_wall_clock_that_jumps_is_not_looked_at(
    same_loop: Any, context: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def jump() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            before = await pool.submit(tasks.identity)
            for now in (0.0, 1e12):
                monkeypatch.setattr(time, "time", lambda now=now: now)
                assert await pool.options(timeout=60).submit(tasks.identity) == before
            with pytest.raises(TaskTimeout):
                await pool.options(timeout=0.05).submit(asyncio.sleep, 60)
            assert await pool.submit(tasks.echo, 1) == 1

    same_loop(jump())
