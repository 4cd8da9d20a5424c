"""The contract, over process workers."""

from __future__ import annotations

from typing import Any

from contract import worker_contract as suite
from offloop import ProcessWorkerFactory


class Process(suite.Context):
    """Workers that are processes."""

    def make_factory(self, **options: Any) -> ProcessWorkerFactory:
        return ProcessWorkerFactory(**options)


class TestLifecycle(Process, suite.LifecycleContract):
    pass


class TestBinding(Process, suite.BindingContract):
    pass


class TestExecution(Process, suite.ExecutionContract):
    pass


class TestCancel(Process, suite.CancelContract):
    pass


class TestCancelMessage(Process, suite.CancelMessageContract):
    pass


class TestCancelRace(
    Process,
    suite.CancelMessageContract,
    suite.CancelRaceContract,
    suite.CancelPicklingContract,
    suite.CancelCrashContract,
):
    pass


class TestFailure(Process, suite.FailureContract):
    pass


class TestEnvironment(Process, suite.EnvironmentContract):
    pass


class TestResource(Process, suite.ResourceContract):
    pass


class TestBootstrap(Process, suite.BootstrapContract):
    pass


class TestPool(Process, suite.PoolContract):
    pass


class TestDispatch(Process, suite.DispatchContract):
    pass


class TestLease(Process, suite.LeaseContract):
    pass


class TestMap(Process, suite.MapContract):
    pass


class TestMapFailure(Process, suite.MapFailureContract):
    pass


class TestRemoteFailure(Process, suite.RemoteFailureContract):
    pass


class TestPickling(Process, suite.PicklingContract):
    pass


class TestOptions(Process, suite.OptionsContract, suite.RetryContract):
    pass


class TestContext(Process, suite.ContextContract, suite.ContextCopyContract, suite.ContextCrashContract):
    pass


class TestCrash(Process, suite.CrashContract):
    pass


class TestStatistics(Process, suite.StatisticsContract, suite.ProcessStatisticsContract):
    pass


class TestRecycling(Process, suite.RecyclingContract):
    pass


class TestMemory(Process, suite.MemoryContract):
    pass


class TestLarge(Process, suite.LargeContract, suite.LargeCopyContract):
    pass


class TestLargeBytes(Process, suite.LargeBytesContract, suite.LargeBytesCopyContract):
    pass


class TestStream(Process, suite.StreamContract):
    pass


class TestStreamFlow(Process, suite.StreamFlowContract):
    pass


class TestStreamClosing(Process, suite.StreamClosingContract):
    pass


class TestStreamCrash(Process, suite.StreamCrashContract):
    pass


class TestProgress(Process, suite.ProgressContract):
    pass


class TestChannel(Process, suite.ChannelContract):
    pass


class TestProgressCrash(Process, suite.ProgressCrashContract):
    pass


class TestChannelPickling(Process, suite.ChannelPicklingContract, suite.ChannelCrashContract):
    pass


class TestStack(Process, suite.StackContract):
    pass


class TestStuck(Process, suite.StuckContract):
    pass


class TestLogging(Process, suite.LoggingContract):
    pass


class TestRemoteLogging(Process, suite.RemoteLoggingContract, suite.LoggingProcessContract):
    pass


class TestWarnings(Process, suite.WarningsContract):
    pass


class TestRemoteWarnings(Process, suite.RemoteWarningsContract):
    pass
