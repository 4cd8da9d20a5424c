"""The plugin for pytest, in runs of pytest of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bounds import wait_exit
from support.scripts import script_environment

pytest_plugins = ["pytester"]

#: What every run begins with: an installed offloop would have loaded the plugin by itself.
PLUGIN = ("-p", "no:offloop", "-p", "offloop.testing.plugin", "-p", "no:randomly", "-p", "no:cacheprovider")

PRELUDE = """
import asyncio, gc, os, threading
import pytest
from offloop import Executor, WorkerPool, submit
from offloop.testing import InlineWorkerFactory

kept = []
"""


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on a test file that begins with the prelude."""
    monkeypatch.setenv("PYTHONPATH", script_environment()["PYTHONPATH"])
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_pytest(code: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(PRELUDE + code)
        return pytester.runpytest_subprocess(*PLUGIN, *arguments, timeout=50)

    return run_pytest


def test_the_fixture_is_a_pool_of_two_processes(run: Run) -> None:
    result = run("""
def test_it(offloop_pool):
    async def main():
        assert await offloop_pool.submit(os.getpid) != os.getpid()
    assert isinstance(offloop_pool, WorkerPool)
    assert offloop_pool.max_workers == 2
    asyncio.run(main())

def test_one_that_is_not_used(offloop_pool):
    assert offloop_pool.worker_count == 0
""")
    result.assert_outcomes(passed=2)
    assert "warning" not in result.stdout.str()


def test_the_marker_has_the_pools_options(run: Run) -> None:
    result = run(
        """
pytestmark = pytest.mark.offloop(max_workers=3)

@pytest.mark.offloop(factory="thread", queue_limit=1)
class TestIt:
    def test_class_and_module(self, offloop_pool):
        assert offloop_pool.max_workers == 3
        async def main():
            return await offloop_pool.submit(os.getpid)
        assert asyncio.run(main()) == os.getpid()

    @pytest.mark.offloop(max_workers=1, factory=InlineWorkerFactory())
    def test_its_own(self, offloop_pool):
        assert offloop_pool.max_workers == 1
        async def main():
            return await offloop_pool.submit(threading.get_ident)
        assert asyncio.run(main()) == threading.get_ident()

@pytest.mark.offloop(max_worker=1)
def test_an_option_that_does_not_exist(offloop_pool):
    pass

@pytest.mark.offloop(3)
def test_positional(offloop_pool):
    pass
""",
        "--strict-markers",
    )
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines_random(["*max_worker*", "*takes keywords only*"])


def test_the_fixture_ends_its_pool_whatever_became_of_the_event_loop(run: Run) -> None:
    result = run("""
KINDS = [
    pytest.param(kind, marks=pytest.mark.offloop(factory=kind))
    for kind in ("process", "thread", InlineWorkerFactory())
]

@pytest.mark.parametrize("end", ["in order", "closed", "paused"])
@pytest.mark.parametrize("kind", KINDS)
def test_it(offloop_pool, kind, end):
    async def main():
        offloop_pool.submit(asyncio.sleep, 3600)  # nobody waits for it
        await asyncio.gather(*(offloop_pool.submit(os.getpid) for _ in range(5)))
    if end == "in order":
        asyncio.run(main())
        return
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    if end == "closed":
        loop.close()
    else:
        kept.append(loop)

def test_nothing_is_left():
    assert not [thread for thread in threading.enumerate() if "offloop" in thread.name]
    for loop in kept:
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
""")
    result.assert_outcomes(passed=10)
    assert "was never shut down" not in result.stdout.str()


LEAKS = """
loop = asyncio.new_event_loop()

async def leak():
    pool = WorkerPool(1, factory=KIND)
    kept.append(pool)
    with open("pid", "a") as file:
        print(await pool.submit(os.getpid), file=file)

def test_left_open(offloop_no_leaks):
    loop.run_until_complete(leak())

def test_ended_by_its_loop(offloop_no_leaks):
    asyncio.run(leak())

def test_closed_without_notice(offloop_no_leaks):
    own = asyncio.new_event_loop()
    own.run_until_complete(leak())
    own.close()

def test_dropped(offloop_no_leaks):
    loop.run_until_complete(leak())
    kept.pop()

def test_beside_the_fixture(offloop_pool):
    loop.run_until_complete(leak())

def test_that_fails_anyway(offloop_no_leaks):
    loop.run_until_complete(leak())
    raise LookupError("its own")

def test_in_order(offloop_no_leaks):
    async def main():
        async with WorkerPool(1, factory=KIND) as pool:
            await pool.submit(abs, 1)
    loop.run_until_complete(main())

def test_the_global_pool_belongs_to_its_loop(offloop_no_leaks):
    async def main():
        await submit(abs, 1)
    loop.run_until_complete(main())

def test_nothing_is_left():
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert not [thread for thread in threading.enumerate() if "offloop" in thread.name]
"""


@pytest.mark.parametrize("kind", ["'process'", "'thread'", "InlineWorkerFactory()"])
def test_a_test_that_leaves_a_pool_behind_fails(run: Run, pytester: pytest.Pytester, kind: str) -> None:
    result = run(LEAKS.replace("KIND", kind))
    result.assert_outcomes(passed=8, failed=1, errors=5)
    # The summary at the end repeats each error, whole where CI is set.
    errors = itertools.takewhile(lambda line: "= FAILURES =" not in line, result.outlines)
    told = [line for line in errors if line.startswith("  <WorkerPool")]
    assert len(told) == 5
    assert all(line.endswith("was never shut down") for line in told)
    if kind == "'process'":
        for pid in (pytester.path / "pid").read_text().split():
            assert wait_exit(int(pid), 20)


def test_a_worker_thread_that_never_ends_fails_its_test(run: Run) -> None:
    result = run(
        """
import warnings
from offloop.testing import leaks

def stay():
    while True:
        try:
            release.wait()
            return
        except BaseException:
            pass

release = threading.Event()
leaks.GRACE = 0.2

def test_it(offloop_no_leaks):
    async def main():
        async with WorkerPool(1, factory="thread", cancel_grace=0.01) as pool:
            pool.submit(stay).cancel()
            execution = pool.submit(stay)
            while execution.started_at is None:
                await asyncio.sleep(0.001)
            execution.cancel()
            await asyncio.wait([execution])
    asyncio.run(main())

def test_release():
    release.set()
""",
        "-W",
        "ignore:.*abandon",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*worker thread offloop-worker-1 still runs"])


def test_every_test_can_be_checked(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nusefixtures = offloop_no_leaks\n")
    result = run("""
def test_it():
    async def main():
        kept.append(WorkerPool(1, factory="thread"))
        await kept[0].submit(abs, 1)
    asyncio.run(main())

def test_without_offloop():
    pass
""")
    result.assert_outcomes(passed=2, errors=1)


def test_an_executor_that_is_left_open_goes_by_its_name(run: Run) -> None:
    result = run("""
def test_left_open(offloop_no_leaks):
    kept.append(Executor(1, factory="thread"))
    kept[0].submit(abs, 1).result()

def test_the_end():
    kept[0].shutdown()
""")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*  <Executor * workers=1/1 *> was never shut down"])


@pytest.mark.parametrize("plugin", ["pytest_asyncio", "anyio"])
def test_the_fixtures_work_under_others_that_run_async_tests(
    run: Run, pytester: pytest.Pytester, plugin: str
) -> None:
    pytest.importorskip(plugin)
    mark = "asyncio" if plugin == "pytest_asyncio" else "anyio"
    result = run(
        f"""
pytestmark = pytest.mark.{mark}

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_used(offloop_pool):
    assert await offloop_pool.submit(abs, -1) == 1

async def test_left_busy(offloop_pool):
    execution = offloop_pool.submit(asyncio.sleep, 3600)
    while execution.started_at is None:
        await asyncio.sleep(0.001)

async def test_leak(offloop_no_leaks):
    kept.append(WorkerPool(1))
    await kept[0].submit(abs, -1)

async def test_in_order(offloop_no_leaks):
    async with WorkerPool(1) as pool:
        await pool.submit(abs, -1)
""",
        "-p",
        {"pytest_asyncio": "pytest_asyncio.plugin", "anyio": "anyio.pytest_plugin"}[plugin],
    )
    result.assert_outcomes(passed=4, errors=1)


def test_loading_the_plugin_loads_nothing_of_weight() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import offloop.testing.plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=script_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["offloop", "offloop.testing", "offloop.testing.plugin"]


def test_the_plugin_is_an_entry_point() -> None:
    with open(Path(__file__).resolve().parent.parent.parent / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    assert project["entry-points"]["pytest11"] == {"offloop": "offloop.testing.plugin"}
