"""Workers on a real Ray cluster; run by ``scripts/test --cluster``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support import leaks, tasks
from support.gates import Gate

from offloop import RayWorkerFactory, WorkerCrashed, WorkerPool
from offloop.testing import worker_contract

#: What Ray's processes are told, and this one, before it is imported.  Without authentication: nothing
#: outside this machine reaches them.
os.environ.update(
    RAY_AUTH_MODE="disabled", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0"
)
ray = pytest.importorskip("ray")

#: What Ray itself leaves open is no concern of ours.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NODE = {"num_cpus": 2, "object_store_memory": 100 << 20, "node_ip_address": "127.0.0.1"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def client_port() -> int:
    """Where Ray's clients are served."""
    return free_port()


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory, client_port: int) -> Iterator[Any]:
    """A node with two CPUs, on the loopback interface alone, whose processes are not taken for workers'."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv(leaks.MARKER_NAME)
        head = {**NODE, "include_dashboard": False, "ray_client_server_port": client_port}
        cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        ray.init(address=cluster.address, log_to_driver=False, _node_ip_address="127.0.0.1")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def left_behind() -> list[str]:
    """Threads of offloop's in this process, and its processes on the cluster."""
    threads = [each.name for each in threading.enumerate() if each.name.startswith("offloop")]
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("offloop.child" in argument for argument in process.cmdline()):
                found.append(f"process {process.pid}")
    return threads + found


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves something of ours behind; Ray itself keeps connections and processes."""
    yield
    until = time.monotonic() + 10
    while (left := left_behind()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not left


class TestContract(worker_contract.WorkerContract):
    """What every context promises."""

    factory = staticmethod(lambda **options: RayWorkerFactory(**options))


async def test_a_pool_for_which_there_is_no_room_goes_on_with_the_workers_that_it_has() -> None:
    async with WorkerPool(4, factory=RayWorkerFactory()) as pool:
        assert await pool.map(abs, range(-100, 0), chunksize=1) == list(range(100, 0, -1))
    assert pool.statistics().failed_starts == 0


async def test_a_node_killed_in_the_midst_of_a_map_costs_no_result_with_retries(cluster: Any) -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = await asyncio.to_thread(cluster.add_node, **NODE)
    there = NodeAffinitySchedulingStrategy(node.node_id, soft=True)  # elsewhere once it is gone
    async with WorkerPool(2, factory=RayWorkerFactory(placement=there)) as pool:
        found = []
        async for item in pool.options(retries=3).map(tasks.echo, range(3000), chunksize=10):
            found.append(item)
            if len(found) == 300:
                await asyncio.to_thread(cluster.remove_node, node, allow_graceful=False)
        assert found == list(range(3000))
        assert pool.statistics().crashes >= 1


async def test_a_frozen_actor_is_noticed_and_its_task_fails(gate: Gate) -> None:
    async with WorkerPool(1, factory=RayWorkerFactory(lost_after=2)) as pool:
        actor = await pool.submit(os.getppid)  # the template, which the actor started
        actor = psutil.Process(actor).ppid()
        held = pool.submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        os.kill(actor, signal.SIGSTOP)
        with pytest.raises(WorkerCrashed, match="nothing was heard of it for 2 s"):
            await held
        os.kill(actor, signal.SIGKILL)
        assert await pool.submit(abs, -1) == 1


def offloop(*arguments: str, address: str) -> str:
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "offloop", *arguments],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_works_through_rays_client(client_port: int) -> None:
    pytest.importorskip("grpc")
    cluster = ["--cluster", f"ray://127.0.0.1:{client_port}", "--workers", "1"]
    assert offloop("map", "math:factorial", "--jsonl", "3", "4", *cluster, address="").split() == ["6", "24"]


def test_the_doctor_tries_the_cluster_that_this_machine_is_part_of(cluster: Any) -> None:
    found = offloop("doctor", "--cluster", "ray", address=cluster.address).splitlines()[-1]
    assert found.startswith("ok    cluster ")
    assert found.endswith("there and back")


async def test_an_actor_that_was_killed_is_a_worker_that_crashed(gate: Gate) -> None:
    async with WorkerPool(1, factory=RayWorkerFactory()) as pool:
        held = pool.submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        seat: Any = next(iter(pool._dispatcher.handles.values())).link
        ray.kill(seat._seat._actor)
        with pytest.raises(WorkerCrashed, match="Actor"):
            await held
        assert await pool.submit(abs, -1) == 1
