"""The contract, over thread workers."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from support import tasks
from support.gates import Gate

from contract import worker_contract as suite
from offloop import ThreadWorkerFactory

#: A thread can't be stopped in a blocking call: it is left to itself, with a warning.
abandons = pytest.mark.filterwarnings("ignore:.*abandon")


class Thread(suite.Context):
    """Workers that are threads of this process."""

    pickles = False
    kills = False

    def make_factory(self, **options: Any) -> ThreadWorkerFactory:
        return ThreadWorkerFactory(**options)


@abandons
class TestLifecycle(Thread, suite.LifecycleContract):
    pass


class TestBinding(Thread, suite.BindingContract):
    pass


class TestExecution(Thread, suite.ExecutionContract):
    pass


@abandons
class TestCancel(Thread, suite.CancelContract):
    pass


class TestFailure(Thread, suite.FailureContract):
    pass


class TestEnvironment(Thread, suite.EnvironmentContract):
    pass


class TestBootstrap(Thread, suite.BootstrapContract):
    pass


@abandons
class TestPool(Thread, suite.PoolContract):
    pass


class TestDispatch(Thread, suite.DispatchContract):
    pass


@abandons
class TestLease(Thread, suite.LeaseContract):
    pass


class TestMap(Thread, suite.MapContract):
    pass


@abandons
class TestMapFailure(Thread, suite.MapFailureContract):
    pass


class TestSharing(Thread, suite.SharingContract):
    pass


class TestLarge(Thread, suite.LargeContract, suite.LargeSharingContract):
    pass


class TestAbandonment(Thread):
    """What happens to code that can't be stopped."""

    async def test_a_thread_that_cannot_be_stopped_is_replaced_with_a_warning(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=0.05) as pool:
            held = pool.submit(tasks.gate_despite_cancellation, gate.path)
            await gate.arrived()
            with pytest.warns(Warning, match="abandon"):  # noqa: PT031
                held.cancel()
                assert await pool.submit(threading.get_native_id) != threading.get_native_id()
            assert held.cancelled()

    async def test_a_worker_is_a_thread_of_this_process(self) -> None:
        async with self.worker() as worker:
            assert await worker.submit(os.getpid) == os.getpid()
            assert await worker.submit(tasks.identity) != threading.get_native_id()
