"""Workers on a real Dask cluster; run by ``scripts/test --cluster``."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import cut_link, tasks
from support.daskcluster import DaskCluster
from support.gates import Gate

from offloop import DaskWorkerFactory, WorkerCrashed, WorkerPool, WorkerStartError
from offloop.testing import worker_contract

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers."""
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"))
    cluster.add_worker()
    cluster.add_worker()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def address(cluster: DaskCluster) -> str:
    """Where its scheduler is."""
    return cluster.wait_workers(2)


class TestContract(worker_contract.WorkerContract):
    """What every context promises."""

    @pytest.fixture(autouse=True)
    def _on_the_cluster(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        factory: Any = staticmethod(partial(DaskWorkerFactory, address))
        monkeypatch.setattr(TestContract, "factory", factory, raising=False)


async def test_workers_are_spread_over_the_machines(address: str, gate: Gate) -> None:
    with distributed.Client(address, set_as_default=False) as client:
        async with WorkerPool(2, factory=DaskWorkerFactory(client)) as pool:
            held = [pool.submit(tasks.pass_gate, gate.path) for _ in range(2)]
            await gate.arrived(2)
            held_at = client.run(lambda dask_worker: len(dask_worker.state.actors))
            assert list(held_at.values()) == [1, 1]
            gate.open()
            await asyncio.gather(*held)
        while sum(client.run(lambda dask_worker: len(dask_worker.state.actors)).values()):
            await asyncio.sleep(0.01)


async def test_a_machine_killed_in_the_midst_of_a_map_costs_no_result_with_retries(
    cluster: DaskCluster, address: str
) -> None:
    process = cluster.add_worker()
    cluster.wait_workers(3)
    async with WorkerPool(3, factory=DaskWorkerFactory(address)) as pool:
        found = []
        async for item in pool.options(retries=3).map(tasks.echo, range(3000), chunksize=10):
            found.append(item)
            if len(found) == 300:
                process.kill()
                process.wait()
        assert found == list(range(3000))


async def test_a_frozen_machine_is_noticed_and_its_tasks_fail_or_run_elsewhere(
    cluster: DaskCluster, address: str, gate: Gate
) -> None:
    process = cluster.add_worker()
    cluster.wait_workers(3)
    with distributed.Client(address, set_as_default=False) as client:
        pids = client.run(lambda: __import__("os").getpid())
    (frozen,) = [each for each, pid in pids.items() if pid == process.pid]
    factory = DaskWorkerFactory(address, workers=[frozen], lost_after=2)
    async with WorkerPool(1, factory=factory) as pool:
        held = pool.submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(WorkerCrashed, match="nothing was heard of it for 2 s"):
            await held
        process.kill()
        process.wait()
        pool.kill()


def may_make_networks() -> bool:
    """Whether there may be network namespaces here, and the tools for them."""
    tools = all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip"))
    return tools and subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_make_networks(), reason="network namespaces need CAP_SYS_ADMIN and iproute2")
def test_a_machine_that_is_cut_off_is_noticed_and_its_tasks_run_elsewhere() -> None:
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "support.cut_link"],
        env={**os.environ, "PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert len(told["lost"]) == 1
    assert "nothing was heard of it for 3 s" in told["lost"][0]
    assert told["noticed"] > 1
    assert told["places"] == [cut_link.NEAR] or told["places"] == sorted([cut_link.NEAR, cut_link.FAR])


async def test_a_dask_worker_that_dies_before_it_holds_an_actor_is_noticed(
    cluster: DaskCluster, address: str
) -> None:
    process = cluster.add_worker()
    cluster.wait_workers(3)
    with distributed.Client(address, set_as_default=False) as client:
        pids = client.run(lambda: __import__("os").getpid())
    (stopped,) = [each for each, pid in pids.items() if pid == process.pid]
    process.send_signal(signal.SIGSTOP)
    async with WorkerPool(1, factory=DaskWorkerFactory(address, workers=[stopped])) as pool:
        execution = pool.submit(abs, -1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(execution), 1.0)
        process.kill()
        process.wait()
        with pytest.raises(WorkerStartError, match=r"is gone|none of the Dask workers that may be used"):
            await execution


@pytest.mark.parametrize("command", [["doctor"], ["map", "math:factorial", "--jsonl", "3", "4"]])
def test_the_command_works_there(address: str, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "offloop", *command, "--cluster", address],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "there and back" in done.stdout.splitlines()[-1] or done.stdout.split() == ["6", "24"]


async def test_a_scheduler_that_is_not_there_is_a_worker_that_cannot_start() -> None:
    factory = DaskWorkerFactory("tcp://127.0.0.1:9", start_timeout=0.5)
    async with WorkerPool(1, factory=factory) as pool:
        with pytest.raises(WorkerStartError):
            await pool.submit(abs, 1)


def test_what_is_no_cluster_is_refused() -> None:
    with pytest.raises(TypeError, match="a scheduler's address"):
        DaskWorkerFactory(3)
