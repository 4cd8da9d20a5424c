"""Pools that nobody shuts down (FAULTS 26): a warning says so, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading

import pytest
from support.bounds import wait_exit

from offloop import WorkerPool
from offloop.loopend import _Closing
from offloop.testing import InlineWorkerFactory

PROGRAM = """
import asyncio, os, sys, time
from offloop import WorkerPool

async def main(end):
    pool = WorkerPool(2)
    print(*await asyncio.gather(pool.submit(os.getpid), pool.submit(os.getppid)))
    if end == "busy":
        pool.submit(time.sleep, 60)
        await asyncio.sleep(0)
    elif end == "exit":
        sys.exit(0)
    elif end == "raise":
        raise ValueError("as planned")
    elif end == "kept":
        globals()["kept"] = pool
    elif end == "dropped":
        del pool
        await asyncio.sleep(0)

try:
    asyncio.run(main(sys.argv[1]))
except ValueError:
    pass
"""


def run_with_warnings(
    program: str, argument: str = "", *, warnings: str = "always"
) -> subprocess.CompletedProcess[str]:
    """Run a program with this argument to its end, which is to be a good one."""
    return subprocess.run(
        [sys.executable, "-W", warnings, "-c", program, argument],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("end", ["return", "busy", "exit", "raise", "kept", "dropped"])
def test_an_abandoned_pool_ends_with_its_loop_and_a_warning(end: str) -> None:
    done = run_with_warnings(PROGRAM, end)
    assert done.stderr.count("ResourceWarning: <WorkerPool") == 1, done.stderr
    assert "unclosed" not in done.stderr
    assert "still running" not in done.stderr
    assert "Traceback" not in done.stderr
    for pid in done.stdout.split():
        assert not os.path.exists(f"/proc/{pid}")


CLOSED = """
import asyncio, gc, sys
from offloop import WorkerPool
from offloop.testing import InlineWorkerFactory

async def use(kind):
    pool = WorkerPool(1, factory=InlineWorkerFactory() if kind == "inline" else kind)
    await pool.submit(asyncio.sleep, 0)
    return pool

loop = asyncio.new_event_loop()
pool = loop.run_until_complete(use(sys.argv[1]))
loop.close()
del pool
gc.collect()
"""


@pytest.mark.parametrize("kind", ["process", "thread", "inline"])
def test_a_pool_whose_loop_was_closed_without_notice_can_be_dropped(kind: str) -> None:
    done = run_with_warnings(CLOSED, kind)
    assert done.stderr.count("ResourceWarning: <WorkerPool") == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


CLOSED_ALONE = """
import asyncio, gc, os, sys, time, weakref
import offloop

kept = []

async def use(how):
    if how == "global":
        return await offloop.submit(os.getpid)
    if how == "single":
        kept.append(offloop.create_worker())
        return await kept[0].submit(os.getpid)
    pool = offloop.WorkerPool(1)
    if how == "kept":
        kept.append(pool)
    return await pool.submit(os.getpid)

def close(how):
    loop = asyncio.new_event_loop()
    print(loop.run_until_complete(use(how)))
    loop.close()  # without its `shutdown_asyncgens`
    return weakref.ref(loop)

closed = close(sys.argv[1])
while True:  # until the worker is gone, and its template
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        break
print([worker.is_running() for worker in kept])
kept.clear()
while closed() is not None:  # a thread that waits for the template has it for another moment
    gc.collect()
    time.sleep(0.005)
"""


@pytest.mark.parametrize("how", ["global", "single", "kept", "forgotten"])
def test_workers_end_as_their_loop_is_closed_alone_and_nothing_keeps_it(how: str) -> None:
    done = run_with_warnings(CLOSED_ALONE, how)
    pid, running = done.stdout.splitlines()
    assert wait_exit(int(pid), 20)
    assert running == ("[False]" if how in ("single", "kept") else "[]")
    assert done.stderr.count("ResourceWarning: <Worker") == (how != "global"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr


CLOSED_WITH_MANY = """
import asyncio, os, sys
from offloop import ProcessWorkerFactory, WorkerPool

async def use():
    # Each has a template of its own; the last one is still starting.
    pools = [WorkerPool(1, factory=ProcessWorkerFactory(env={"N": str(number)})) for number in range(3)]
    for pool in pools[:2]:
        print(await pool.submit(os.getpid))
    starting = pools[2].submit(os.getpid)
    for _ in range(2):
        await asyncio.sleep(0)
    return pools, starting

other = asyncio.Runner()
kept = WorkerPool(1)
async def use_other():
    return await kept.submit(os.getpid)
pid = other.run(use_other())
loop = asyncio.new_event_loop()
pools, starting = loop.run_until_complete(use())
loop.close()
print([pool.is_running() for pool in (*pools, kept)], other.run(use_other()) == pid)
other.run(kept.shutdown())
other.close()
"""


@pytest.mark.parametrize("warnings", ["always", "error"])
def test_all_pools_of_a_closed_loop_end_and_no_other(warnings: str) -> None:
    done = run_with_warnings(CLOSED_WITH_MANY, warnings=warnings)
    first, second, running = done.stdout.splitlines()
    assert running == "[False, False, False, True] True", done.stderr
    assert wait_exit(int(first), 20)
    assert wait_exit(int(second), 20)
    assert "event loop is closed" not in done.stderr.lower(), done.stderr
    assert done.stderr.count("ResourceWarning: <WorkerPool") == (3 if warnings == "always" else 1), (
        done.stderr
    )


async def test_no_timer_is_left_in_the_loop_after_its_last_pool() -> None:
    loop = asyncio.get_running_loop()
    if not hasattr(loop, "_scheduled"):
        pytest.skip("this event loop hides its timers")
    async with WorkerPool(1, factory="thread"), WorkerPool(1, factory="thread") as pool:
        await pool.submit(len, "")
        waiting = [timer for timer in loop._scheduled if isinstance(timer._callback, _Closing)]
        assert len(waiting) == 1
        waiting[0]._run()  # as after some days
        assert [type(timer._callback) for timer in loop._scheduled].count(_Closing) == 2
    left = [timer for timer in loop._scheduled if not timer.cancelled() and timer not in waiting]
    assert not [timer for timer in left if isinstance(timer._callback, _Closing)]


@pytest.mark.parametrize("kind", ["process", "thread", "inline"])
def test_a_pool_dropped_while_its_loop_pauses_harms_no_other(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async def use(pool: WorkerPool) -> int:
        await pool.submit(asyncio.sleep, 0)
        return await pool.submit(os.getpid)

    def new_pool() -> WorkerPool:
        return WorkerPool(1, factory=InlineWorkerFactory() if kind == "inline" else kind)

    make_loop = None
    if request.config.getoption("--uvloop"):
        import uvloop

        make_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        # Processes share a template.
        dropped, kept = new_pool(), new_pool()
        pid, other = runner.run(use(dropped)), runner.run(use(kept))
        with pytest.warns(ResourceWarning, match="never shut down"):  # noqa: PT031
            del dropped
            gc.collect()
        assert kind != "process" or wait_exit(pid, 20)
        assert runner.run(use(kept)) == other
        for _ in range(2):  # what was closed there is opened anew here
            newer = new_pool()
            runner.run(use(newer))
            assert runner.run(newer.shutdown()) == 0
        assert runner.run(use(kept)) == other
        assert runner.run(kept.shutdown()) == 0


async def pid_of_a_forgotten_worker(kept: list[WorkerPool]) -> int:
    pool = WorkerPool(1)
    kept.append(pool)
    return await pool.submit(os.getpid)


@pytest.mark.parametrize("end", ["the loop's end", "garbage collection"])
def test_a_forgotten_pool_ends_also_where_warnings_are_errors(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[WorkerPool] = []
    raised: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: raised.append(it.exc_value))
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        pid = runner.run(pid_of_a_forgotten_worker(kept))
        if end == "garbage collection":
            kept.clear()
            gc.collect()
    assert wait_exit(pid, 20)
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join(20)  # one reaps the template, as no loop runs that would
    assert [type(error) for error in raised] == [ResourceWarning]


async def test_a_pool_whose_end_is_cancelled_with_all_tasks_of_its_loop_ends_all_the_same() -> None:
    pool = WorkerPool(1)
    await pool.submit(os.getpid)
    end = asyncio.ensure_future(pool.shutdown())
    while (ending := pool._dispatcher._ending) is None:
        await asyncio.sleep(0)
    ending.cancel()  # before its first step, and while it waits for the template
    while pool._dispatcher._ending in (ending, None):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not pool._dispatcher.ended_for_good
    pool._dispatcher._ending.cancel()
    assert await end == 0
    assert pool._dispatcher.ended_for_good
