"""The contract, over workers in interpreters; where there are none, one clear error says so."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from support import lingering, tasks
from support.gates import Gate
from support.scripts import run_script

import offloop
from contract import worker_contract as suite
from offloop import InterpreterWorkerFactory, WorkerPool, WorkerStartError
from offloop.contexts import framed_link

has_interpreters = sys.version_info >= (3, 14)
with_interpreters = pytest.mark.skipif(not has_interpreters, reason="needs Python 3.14")
without_interpreters = pytest.mark.skipif(has_interpreters, reason="there are interpreters here")
#: An interpreter can't be stopped in a blocking call: it is left to itself, with a warning.
abandons = pytest.mark.filterwarnings("ignore:.*abandon")


@without_interpreters
class TestWithout:
    """Below Python 3.14 the names are there, and using them is one clear error."""

    def test_the_factory(self) -> None:
        message = r"interpreter workers need Python 3\.14 or newer, and this is 3\."
        with pytest.raises(RuntimeError, match=message):
            InterpreterWorkerFactory()

    def test_the_name(self) -> None:
        with pytest.raises(RuntimeError, match=r"Python 3\.14"):
            WorkerPool(1, factory="interpreter")
        with pytest.raises(RuntimeError, match=r"Python 3\.14"):
            offloop.Executor(1, factory="interpreter")

    async def test_the_functions(self) -> None:
        with pytest.raises(RuntimeError, match=r"Python 3\.14"):
            await offloop.to_interpreter(tasks.echo, 1)
        with pytest.raises(RuntimeError, match=r"Python 3\.14"):
            offloop.factory("interpreter")


@with_interpreters
class Interpreter(suite.Context):
    """Workers that are interpreters of this process."""

    kills = False
    # Without the GIL, `sys._current_frames` has for a thread what it runs in the main interpreter.
    sees_frames = getattr(sys, "_is_gil_enabled", lambda: True)()
    has_numpy = False

    def make_factory(self, **options: Any) -> InterpreterWorkerFactory:
        return InterpreterWorkerFactory(**options)


@with_interpreters
class TestLingering:
    """One that has said its last word, and has a thread that does not end."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(framed_link, "EXIT_GRACE", 0.2)

    async def test_after_its_goodbye_it_is_abandoned(self, gate: Gate) -> None:
        pool = WorkerPool(1, factory="interpreter")
        await pool.submit(lingering.start_thread_at, gate.path)
        with pytest.warns(RuntimeWarning, match="is abandoned, and what holds it up goes on"):
            assert await pool.shutdown() == -signal.SIGKILL

    @pytest.mark.filterwarnings("ignore:.*abandon")
    async def test_if_it_can_not_start_that_is_told(self, gate: Gate) -> None:
        bootstrap = lingering.LingersAndFails(gate.path)
        async with WorkerPool(1, factory=InterpreterWorkerFactory(bootstrap=bootstrap)) as pool:
            with pytest.raises(WorkerStartError, match="it can not"):
                await pool.submit(abs, -1)


GIVEN_UP = """
import asyncio, os, signal, threading
from support import tasks
from offloop import WorkerPool

signal.signal(signal.SIGPIPE, signal.SIG_DFL)

async def main():
    reading, writing = os.pipe()
    pool = WorkerPool(1, factory="interpreter")
    execution = pool.submit(os.read, reading, 1)
    while execution.worker_id is None:
        await asyncio.sleep(0)
    (thread,) = [each for each in threading.enumerate() if each is not threading.main_thread()]
    pool.kill()
    await pool.shutdown()
    os.write(writing, b"x")
    thread.join()
    print("done")

asyncio.run(main())
"""


@with_interpreters
def test_a_program_that_a_broken_pipe_would_end_outlives_one_that_it_gave_up(tmp_path: Path) -> None:
    done = run_script(GIVEN_UP, tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n")


@abandons
class TestLifecycle(Interpreter, suite.LifecycleContract):
    pass


class TestBinding(Interpreter, suite.BindingContract):
    pass


class TestExecution(Interpreter, suite.ExecutionContract):
    pass


@abandons
class TestCancel(Interpreter, suite.CancelContract):
    pass


class TestCancelMessage(Interpreter, suite.CancelMessageContract):
    pass


@abandons
class TestCancelRace(Interpreter, suite.CancelRaceContract, suite.CancelPicklingContract):
    pass


class TestFailure(Interpreter, suite.FailureContract):
    pass


class TestEnvironment(Interpreter, suite.EnvironmentContract):
    pass


class TestResource(Interpreter, suite.ResourceContract):
    pass


class TestBootstrap(Interpreter, suite.BootstrapContract):
    pass


@abandons
class TestPool(Interpreter, suite.PoolContract):
    pass


class TestDispatch(Interpreter, suite.DispatchContract):
    pass


@abandons
class TestLease(Interpreter, suite.LeaseContract):
    pass


class TestMap(Interpreter, suite.MapContract):
    pass


@abandons
class TestMapFailure(Interpreter, suite.MapFailureContract):
    pass


class TestRemoteFailure(Interpreter, suite.RemoteFailureContract):
    pass


class TestPickling(Interpreter, suite.PicklingContract):
    pass


class TestOptions(Interpreter, suite.OptionsContract):
    pass


class TestContext(Interpreter, suite.ContextContract, suite.ContextCopyContract):
    pass


@abandons
class TestStatistics(Interpreter, suite.StatisticsContract):
    pass


class TestRecycling(Interpreter, suite.RecyclingContract):
    pass


class TestLargeBytes(Interpreter, suite.LargeBytesContract, suite.LargeBytesCopyContract):
    pass


@abandons
class TestStream(Interpreter, suite.StreamContract):
    pass


@abandons
class TestStreamFlow(Interpreter, suite.StreamFlowContract):
    pass


@abandons
class TestStreamClosing(Interpreter, suite.StreamClosingContract):
    pass


class TestProgress(Interpreter, suite.ProgressContract):
    pass


class TestChannel(Interpreter, suite.ChannelContract):
    pass


class TestChannelPickling(Interpreter, suite.ChannelPicklingContract):
    pass


class TestStack(Interpreter, suite.StackContract):
    pass


class TestLogging(Interpreter, suite.LoggingContract):
    pass


class TestRemoteLogging(Interpreter, suite.RemoteLoggingContract):
    pass


class TestWarnings(Interpreter, suite.WarningsContract):
    pass


class TestRemoteWarnings(Interpreter, suite.RemoteWarningsContract):
    pass
