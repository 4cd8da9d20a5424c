"""What becomes of tasks when a cluster fails, on one in memory that fails when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import fakeengine, hostile, spoiling, tasks
from support.fakeengine import Cluster
from support.gates import Gate

from offloop import WorkerCrashed, WorkerKilled, WorkerPool, WorkerStartError
from offloop.contexts import framed_link, messages
from offloop.contexts.far import FarWorker
from offloop.contexts.lines import Batch, FedLine
from offloop.wire.frames import RETURNED, ProtocolError, frame, pack_numbers

#: Seconds of silence after which these workers are lost: some heartbeats, and soon over.
SOON = 0.5
#: What is no frame.
GARBAGE = b"\xff" * 64


def pool(cluster: Cluster, workers: int = 2, **options: Any) -> WorkerPool:
    """A pool on it that notices silence soon."""
    return WorkerPool(workers, factory=cluster.factory(lost_after=SOON), **options)


async def test_pushes_that_overtake_each_other_are_put_in_order() -> None:
    cluster = Cluster()
    cluster.reorder = True
    async with pool(cluster) as workers:
        assert await workers.map(abs, range(-2000, 0), chunksize=1) == list(range(2000, 0, -1))


async def test_an_answer_that_was_lost_is_given_again_and_counts_once() -> None:
    cluster = Cluster()
    cluster.duplicate = True
    async with pool(cluster) as workers:
        executions = [workers.submit(abs, -number) for number in range(500)]
        assert await asyncio.gather(*executions) == list(range(500))


async def test_a_machine_that_dies_fails_what_it_may_have_begun_and_the_rest_runs_elsewhere(
    gate: Gate,
) -> None:
    cluster = Cluster()
    async with pool(cluster, 1) as workers:
        held = workers.submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        rest = [workers.submit(abs, -number) for number in range(50)]
        cluster.seats[0].die()
        with pytest.raises(WorkerCrashed, match=r"was lost .*the actor died.*machine0"):
            await held
        assert await asyncio.gather(*rest) == list(range(50))
        assert len(cluster.seats) == 2


async def test_a_machine_that_falls_silent_is_given_up(gate: Gate) -> None:
    cluster = Cluster()
    async with pool(cluster, 1) as workers:
        held = workers.submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        cluster.seats[0].fall_silent()
        with pytest.raises(WorkerCrashed, match=r"nothing was heard of it for 0\.5 s"):
            await held
        assert cluster.given_up == [cluster.seats[0]]
        assert await workers.submit(abs, -1) == 1


async def test_with_retries_a_task_of_a_lost_machine_runs_again(gate: Gate) -> None:
    cluster = Cluster()
    async with pool(cluster, 1) as workers:
        held = workers.options(retries=1).submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        cluster.seats[0].die()
        await gate.arrived()
        gate.open()
        await held


async def test_garbage_on_one_line_takes_no_outcome_along_that_came_on_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply_of, log = FarWorker._reply, tmp_path / "log"
    spoilt: list[messages.Reply] = []

    def reply(worker: FarWorker, held: float) -> bytes:
        said = messages.Reply(*messages.unpack(reply_of(worker, held)))
        if said.data and log.exists() and not spoilt:
            said = said._replace(control=said.control + GARBAGE)
            spoilt.append(said)
        return messages.pack(said)

    monkeypatch.setattr(FarWorker, "_reply", reply)
    async with pool(Cluster(), 1) as workers:
        executions = [workers.submit(tasks.append_line, str(log), str(number)) for number in range(20)]
        await asyncio.gather(*executions, return_exceptions=True)
        assert workers.statistics().crashes == len(spoilt) == 1
    ran = log.read_text().split()
    assert len(ran) == len(set(ran))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that have said their last word get but little time to end."""
    monkeypatch.setattr(framed_link, "EXIT_GRACE", 0.2)


@pytest.mark.usefixtures("impatient")
async def test_what_hangs_at_the_end_of_a_worker_is_ended() -> None:
    async with pool(Cluster(), 1) as workers:
        await workers.submit(spoiling.hang_at_exit)
        assert await workers.shutdown() == -signal.SIGTERM


@pytest.mark.usefixtures("impatient")
async def test_what_hangs_at_the_end_of_a_worker_that_cannot_start_is_ended() -> None:
    factory = Cluster().factory(bootstrap=hostile.NeverExitingBootstrap("raises"))
    async with WorkerPool(1, factory=factory) as workers:
        with pytest.raises(WorkerStartError, match="hostile"):
            await workers.submit(abs, -1)


def test_what_is_said_before_garbage_about_tasks_is_taken() -> None:
    returned: list[int] = []
    owner: Any = SimpleNamespace(link_returned=returned.extend)
    nothing: Any = None
    line = FedLine(owner, nothing, nothing, Batch(lambda: None))
    for _ in range(2):  # what comes behind it is not
        with pytest.raises(ProtocolError):
            line.feed(frame(RETURNED, pack_numbers([3])) + GARBAGE)
    assert returned == [3]


async def test_a_node_that_dies_in_the_midst_of_a_map_costs_at_most_what_it_held() -> None:
    cluster = Cluster()
    async with pool(cluster) as workers:
        await asyncio.gather(*(workers.submit(abs, number) for number in range(20)))
        mapped = workers.options(retries=2).map(abs, range(3000), chunksize=5)
        found = []
        async for item in mapped:
            found.append(item)
            if len(found) == 100:
                cluster.seats[0].die()
        assert found == list(range(3000))


async def test_a_worker_that_hears_nothing_from_its_parent_ends_itself() -> None:
    order = messages.pack(messages.Order(1, (), {}, 0.5))
    worker = FarWorker(order)
    await worker.open()
    while worker._process is None:
        await asyncio.sleep(0.005)
    with suppress(ProcessLookupError):  # it has ended already, and was waited for
        pidfd = os.pidfd_open(worker._process.pid)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, ended.set)
        await ended.wait()
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
    await worker.close()
    await worker._starter.wait_ended()


async def test_an_idle_worker_that_is_heard_of_stays() -> None:
    cluster = Cluster()
    async with pool(cluster, 1) as workers:
        first = await workers.submit(os.getpid)
        before = cluster.calls.count("pull")
        while cluster.calls.count("pull") < before + 2 / messages.HOLD:  # twice what silence may last
            await asyncio.sleep(SOON * messages.HOLD)
        assert await workers.submit(os.getpid) == first


async def test_an_event_loop_that_is_held_up_for_longer_than_silence_may_last_loses_no_worker() -> None:
    with fakeengine.machine() as cluster:
        async with pool(cluster, 1) as workers:
            first = await workers.submit(os.getpid)
            time.sleep(1.4 * SOON)
            assert await workers.submit(os.getpid) == first


async def test_a_parent_that_comes_back_after_too_long_hears_that_its_worker_has_ended_itself() -> None:
    with fakeengine.machine() as cluster:
        async with pool(cluster, 1) as workers:
            first = await workers.submit(os.getpid)
            time.sleep(4 * SOON)
            assert await workers.options(retries=1).submit(os.getpid) != first
            assert workers.statistics().crashes == 1


async def test_actors_that_die_with_their_machine_before_they_are_spoken_to_fail_no_task() -> None:
    cluster = Cluster()
    cluster.stillborn = 6
    async with pool(cluster, 2) as workers:
        assert await workers.submit(abs, -1) == 1


async def test_a_cluster_that_refuses_an_actor_is_a_worker_that_could_not_start() -> None:
    cluster = Cluster()
    cluster.refuse = RuntimeError("no such machine")
    async with pool(cluster, 1) as workers:
        with pytest.raises(WorkerStartError, match="no such machine"):
            await workers.submit(abs, 1)


async def test_a_cluster_without_room_is_waited_for_only_so_long() -> None:
    cluster = Cluster()
    cluster.is_full = True
    factory = cluster.factory(start_timeout=0.05)
    async with WorkerPool(1, factory=factory) as workers:
        with pytest.raises(WorkerStartError, match=r"nothing was heard of it for 0\.05 s"):
            await workers.submit(abs, 1)


async def test_a_pool_ends_though_the_cluster_has_no_room_for_a_worker_of_it() -> None:
    cluster = Cluster()
    async with WorkerPool(2, factory=cluster.factory(start_timeout=1000)) as workers:
        await workers.submit(abs, -1)
        cluster.is_full = True
        await asyncio.gather(*(workers.submit(time.sleep, 0.001) for _ in range(100)))
        assert workers.worker_count == 2
        assert len(cluster.seats) == 1
    assert workers.statistics().failed_starts == 0


async def test_other_versions_over_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    theirs = {**messages.hello(), "Python": "3.7"}
    monkeypatch.setattr("offloop.contexts.far.hello", lambda: theirs)
    async with pool(cluster, 1) as workers:
        with pytest.raises(WorkerStartError, match=r"the cluster has Python 3\.7, and this program"):
            await workers.submit(abs, 1)


async def test_a_worker_is_killed_though_its_machine_does_not_answer(gate: Gate) -> None:
    cluster = Cluster()
    workers = pool(cluster, 1)
    held = workers.submit(tasks.pass_gate, gate.path)
    await gate.arrived()
    cluster.seats[0].fall_silent()
    workers.kill()
    with pytest.raises(WorkerKilled):
        await held
    await workers.shutdown()


async def test_what_runs_is_known_here(gate: Gate) -> None:
    cluster = Cluster()
    async with pool(cluster, 1) as workers:
        held = workers.submit(tasks.pass_gate, gate.path)
        await gate.arrived()
        while not workers.statistics().workers[0].running:
            await asyncio.sleep(0.005)
        gate.open()
        await held
        assert held.started_at is not None


async def test_small_tasks_travel_in_few_calls() -> None:
    cluster = Cluster()
    async with pool(cluster, 1) as workers:
        await workers.submit(abs, 1)
        await asyncio.gather(*(workers.submit(abs, 1) for _ in range(50)))
        cluster.calls.clear()
        await asyncio.gather(*(workers.submit(abs, 1) for _ in range(2000)))
        assert cluster.calls.count("push") < 200
