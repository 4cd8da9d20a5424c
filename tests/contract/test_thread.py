"""The contract, over thread workers."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from support import tasks
from support.gates import Gate

from contract import worker_contract as suite
from contract.base import occupy
from offloop import ThreadWorkerFactory, WorkerKilled
from offloop.contexts.thread_port import ThreadPort

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


class TestCancelMessage(Thread, suite.CancelMessageContract):
    pass


class TestCancelRace(Thread, suite.CancelRaceContract):
    pass


class TestFailure(Thread, suite.FailureContract):
    pass


class TestEnvironment(Thread, suite.EnvironmentContract):
    pass


class TestResource(Thread, suite.ResourceContract):
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


class TestOptions(Thread, suite.OptionsContract):
    pass


class TestMap(Thread, suite.MapContract):
    pass


@abandons
class TestMapFailure(Thread, suite.MapFailureContract):
    pass


class TestRecycling(Thread, suite.RecyclingContract):
    pass


class TestContext(Thread, suite.ContextContract, suite.ContextSharingContract):
    pass


class TestSharing(Thread, suite.SharingContract):
    pass


@abandons
class TestStatistics(Thread, suite.StatisticsContract):
    async def test_a_thread_has_no_process_of_its_own(self) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, b"x" * 1_000_000)
            (worker,) = pool.statistics().workers
            assert (worker.pid, worker.rss, worker.bytes_out, worker.bytes_in) == (None, None, 0, 0)


class TestLarge(Thread, suite.LargeContract, suite.LargeSharingContract):
    pass


class TestLargeBytes(Thread, suite.LargeBytesContract):
    pass


class TestMemory(Thread):
    """Threads share their memory."""

    def test_a_limit_of_each_workers_memory_is_refused(self) -> None:
        with pytest.raises(ValueError, match="max_memory_per_worker needs workers that are processes"):
            self.pool(1, max_memory_per_worker=1 << 30)


@abandons
class TestStream(Thread, suite.StreamContract):
    pass


@abandons
class TestStreamFlow(Thread, suite.StreamFlowContract):
    pass


@abandons
class TestStreamClosing(Thread, suite.StreamClosingContract):
    pass


class TestProgress(Thread, suite.ProgressContract):
    pass


class TestChannel(Thread, suite.ChannelContract):
    pass


class TestStack(Thread, suite.StackContract):
    pass


class TestLogging(Thread, suite.LoggingContract):
    pass


class TestWarnings(Thread, suite.WarningsContract):
    pass


class TestAbandonment(Thread):
    """What happens to code that can't be stopped."""

    async def test_a_thread_that_cannot_be_stopped_is_replaced_with_a_warning(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=0.05) as pool:
            held = pool.submit(tasks.gate_despite_cancellation, gate.path)
            await gate.arrived()
            with pytest.warns(RuntimeWarning, match="abandon") as told:  # noqa: PT031
                held.cancel()
                assert await pool.submit(threading.get_native_id) != threading.get_native_id()
            assert held.cancelled()
        [warning] = told
        assert warning.filename == tasks.gate_despite_cancellation.__code__.co_filename
        gate.open()

    async def test_kill_abandons_every_busy_worker_with_a_warning_each(self, gate: Gate) -> None:
        pool = self.pool(2)
        held = await occupy(pool, gate, 2)
        with pytest.warns(RuntimeWarning, match="abandon") as told:  # noqa: PT031
            pool.kill()
            outcomes = await asyncio.gather(*held, return_exceptions=True)
            await pool.shutdown()
        assert [type(outcome) for outcome in outcomes] == [WorkerKilled] * 2
        assert len(told) == 2
        gate.open()

    async def test_a_worker_is_a_thread_of_this_process(self) -> None:
        async with self.worker() as worker:
            assert await worker.submit(os.getpid) == os.getpid()
            assert await worker.submit(tasks.identity) != threading.get_native_id()

    async def test_one_whose_task_has_ended_is_not_said_to_go_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noted = ThreadPort.running
        # The thread may be kept from its CPU just before it notes that nothing runs any more.
        monkeypatch.setattr(ThreadPort, "running", lambda *args: noted(*args) if args[2] else None)
        async with self.pool(1) as pool:
            assert await pool.submit(abs, -1) == 1
            pool.kill()  # a warning would be an error
            await asyncio.sleep(0)
