"""The contract, over workers in interpreters; where there are none, one clear error says so."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support import tasks

import offloop
from contract import worker_contract as suite
from offloop import InterpreterWorkerFactory, WorkerPool

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
