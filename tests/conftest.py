"""Runs async tests, bounds every test, and fails those which leak."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import inspect
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `support` and `contract`, here and in the workers
pytest.register_assert_rewrite("contract")

from support.bounds import LoopRunner, TestHungError, fail_after, hang_guard  # noqa: E402
from support.gates import Gate, Log, Mailbox  # noqa: E402
from support.leaks import Snapshot, end_children, mark_children  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offloop import WorkerFactory

#: Seconds that a test may take with ``--in-full``.
HOUR = 3600.0

_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--uvloop", action="store_true", help="run async tests on uvloop's event loop")
    parser.addoption(
        "--in-full",
        action="store_true",
        help="run tests/faults/test_large_numbers.py in full: it takes minutes, and 12 GiB of memory",
    )


def pytest_configure(config: pytest.Config) -> None:
    mark_children()
    # A shell has jobs in the background ignore these, and so would the programs that tests run.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if config.getoption("--uvloop"):
        _loop_runner(config)(asyncio.sleep(0))  # what uvloop opens once and keeps is no test's leak


def pytest_collection_finish(session: pytest.Session) -> None:
    # What collection made is here to stay, and every test runs a full collection or two:
    # without this, and after each test, they would take half of the suite's time.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    run = _loop_runner(pyfuncitem.config)
    names = inspect.signature(pyfuncitem.obj).parameters
    run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}))
    gc.collect()  # a future reports an exception that nobody retrieved when it is collected
    if run.errors:
        pytest.fail("the event loop was told of errors:\n" + "\n".join(map(repr, run.errors)))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """End a test that hangs, even where the event loop itself is stuck."""
    try:
        if item.config.getoption("--in-full"):
            faulthandler.cancel_dump_traceback_later()  # which pytest set going, and would end the run
        with hang_guard(HOUR) if item.config.getoption("--in-full") else hang_guard():
            return (yield)
    except TestHungError as error:
        end_children()
        pytest.fail(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


def _loop_runner(config: pytest.Config) -> LoopRunner:
    if not config.getoption("--uvloop"):
        return LoopRunner(None)
    import uvloop

    return LoopRunner(uvloop.new_event_loop)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a thread, a descriptor or shared memory behind.

    What is left is cleaned away, so that no later test is blamed; a test that
    failed already is not reported twice.
    """
    before = Snapshot.take()
    yield
    leaks = before.leaks()
    gc.freeze()  # what this test left, reports as a rule, is here to stay
    if leaks and not request.node.stash.get(_FAILED, False):
        pytest.fail("the test left behind:\n  " + "\n  ".join(leaks))


@pytest.fixture(params=["process", "thread"])
def factory(request: pytest.FixtureRequest) -> WorkerFactory:
    """A factory of each kind in turn, for tests outside the contract classes."""
    import offloop

    kinds = {"process": offloop.ProcessWorkerFactory, "thread": offloop.ThreadWorkerFactory}
    return kinds[request.param]()


@pytest.fixture
def run_loop(request: pytest.FixtureRequest) -> Iterator[LoopRunner]:
    """``asyncio.run``, bounded and on the chosen kind of loop, for tests about a loop's whole life."""
    runner = _loop_runner(request.config)
    yield runner
    gc.collect()
    if runner.errors:
        pytest.fail("the event loop was told of errors:\n" + "\n".join(map(repr, runner.errors)))


@pytest.fixture
def without_collections() -> Iterator[None]:
    """No garbage is collected: what a cycle keeps stays alive."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads are switched as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(name="fail_after")
def _fail_after() -> Callable[[float], Any]:
    """`support.bounds.fail_after`."""
    return fail_after


@pytest.fixture
def make_gate(tmp_path: Path) -> Iterator[Callable[[], Gate]]:
    """Makes gates; they are closed, and so let everybody through, after the test."""
    gates: list[Gate] = []

    def make() -> Gate:
        gates.append(Gate(tmp_path / f"gate{len(gates)}"))
        return gates[-1]

    yield make
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(make_gate: Callable[[], Gate]) -> Gate:
    """One gate."""
    return make_gate()


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    """A mailbox for messages from running tasks."""
    box = Mailbox(tmp_path / "mailbox")
    yield box
    box.close()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A log file for running tasks."""
    return Log(tmp_path / "log")
