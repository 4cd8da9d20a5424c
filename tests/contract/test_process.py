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


class TestFailure(Process, suite.FailureContract):
    pass


class TestEnvironment(Process, suite.EnvironmentContract):
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


class TestCrash(Process, suite.CrashContract):
    pass


class TestLarge(Process, suite.LargeContract, suite.LargeCopyContract):
    pass
