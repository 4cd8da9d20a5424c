"""Traces: everything that happens is in the file, and nothing is left of a trace that has ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support import tasks
from support.bounds import eventually, fail_after
from support.gates import Gate

from offloop import (
    StatusError,
    Task,
    TaskTimeout,
    ThreadWorkerFactory,
    Worker,
    WorkerCrashed,
    WorkerFactory,
    WorkerKilled,
    WorkerPool,
    WorkerStartError,
)
from offloop.contexts import process_link
from offloop.dispatcher import Dispatcher
from offloop.handle import WorkerHandle
from offloop.observe.reading import TraceError, read_trace
from offloop.observed import Ending, Observer, observe, unobserve

pytestmark = pytest.mark.filterwarnings("ignore:a thread can't be killed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


def tasks_of(path: Path) -> list[dict[str, Any]]:
    """The events of tasks, in the order of their numbers."""
    events = json.loads(path.read_text())  # a trace that has ended is JSON to everybody
    return sorted((e for e in events if e["cat"] == "task"), key=lambda e: e["args"]["id"])


def outcomes(path: Path) -> list[tuple[str, str]]:
    return [(event["name"], event["args"]["outcome"]) for event in tasks_of(path)]


def worker_events(path: Path) -> Counter[str]:
    return Counter(e["name"] for e in read_trace(path) if e["cat"] == "worker" and e["ph"] in "Xi")


async def test_tasks_are_recorded_with_their_times(factory: WorkerFactory, path: Path) -> None:
    async with WorkerPool(2, factory=factory) as pool, pool.trace(path) as trace:
        executions = [pool.submit(tasks.echo, number) for number in range(50)]
        await asyncio.gather(*executions)
    events = tasks_of(path)
    assert outcomes(path) == [("echo", "succeeded")] * 50
    for event, execution in zip(events, executions, strict=True):
        assert execution.started_at is not None
        assert event["ts"] == pytest.approx(execution.started_at * 1e6, abs=1)
        assert event["dur"] >= 0
        assert event["args"]["queued"] <= event["ts"] + 1
    assert "recorded=" in repr(trace)
    assert worker_events(path)["starting"] >= 1


async def test_every_way_for_a_task_to_end(factory: WorkerFactory, path: Path, gate: Gate) -> None:
    async with WorkerPool(1, factory=factory) as pool, pool.trace(path):
        with pytest.raises(ValueError, match="no"):
            await pool.submit(tasks.fail, ValueError("no"))
        running = pool.submit(tasks.apass_gate, gate.path)
        await gate.arrived()
        waiting = pool.submit(tasks.echo, 1)
        waiting.cancel()
        running.cancel()
        await asyncio.wait([running, waiting])
        with pytest.raises(TaskTimeout):
            await pool.options(timeout=0.01).submit(tasks.apass_gate, gate.path)
    assert outcomes(path) == [
        ("fail", "failed"),
        ("apass_gate", "cancelled"),
        ("echo", "cancelled"),
        ("apass_gate", "timed_out"),
    ]
    failed, interrupted, never_ran, timed_out = tasks_of(path)
    assert failed["args"]["error"] == "ValueError"
    assert failed["args"]["task"] == "fail(ValueError('no'))"
    assert (interrupted["ph"], never_ran["ph"], timed_out["ph"]) == ("X", "i", "X")


async def test_a_chunk_of_a_map_of_which_items_fail(factory: WorkerFactory, path: Path) -> None:
    async with WorkerPool(1, factory=factory) as pool, pool.trace(path):
        await pool.map(tasks.fail_if_odd, range(4), chunksize=2, return_exceptions=True)
        await pool.map(tasks.echo, [(1, 2, 3)], chunksize=1)
    assert outcomes(path) == [("fail_if_odd", "failed"), ("fail_if_odd", "failed"), ("echo", "succeeded")]
    assert [event["args"].get("error") for event in tasks_of(path)] == ["ValueError", "ValueError", None]


async def test_crashes_and_retries(path: Path, tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")
    async with WorkerPool(1) as pool, pool.trace(path):
        with pytest.raises(WorkerCrashed):
            await pool.submit(tasks.exit_process, 3)
        await pool.options(retries=1).submit(tasks.crash_at_first, marker)
    assert outcomes(path) == [
        ("exit_process", "crashed"),
        ("crash_at_first", "retried"),
        ("crash_at_first", "succeeded"),
    ]
    assert [event["args"].get("attempt") for event in tasks_of(path)] == [None, None, 2]
    assert ["received" in event["args"] for event in tasks_of(path)] == [False, False, True]
    found = worker_events(path)
    assert (found["starting"], found["crashed"]) == (3, 2)
    restarts = [e["args"]["restart"] for e in read_trace(path) if e["name"] == "starting"]
    assert restarts == [False, True, True]


async def test_bytes_are_weighed_for_each_task(path: Path) -> None:
    async with WorkerPool(1) as pool, pool.trace(path):
        await pool.submit(len, b"x" * 1_000_000)
        await pool.submit(bytes, 2_000_000)
        await pool.submit(tasks.echo, "y" * 3_000)
        async for _ in pool.stream(iter, ["z" * 4_000] * 5):
            pass
    sizes = [(event["args"]["sent"], event["args"]["received"]) for event in tasks_of(path)]
    expected = [(1_000_000, 0), (0, 2_000_000), (3_000, 3_000), (4_000, 20_000)]
    for size, least in zip(sizes, expected, strict=True):
        assert least[0] <= size[0] < least[0] + 1_000
        assert least[1] <= size[1] < least[1] + 2_000


async def test_tasks_that_overlap_lie_in_lanes_of_their_own(path: Path, gate: Gate) -> None:
    async with WorkerPool(1, factory=ThreadWorkerFactory(concurrency=3)) as pool, pool.trace(path):
        running = [pool.submit(tasks.apass_gate, gate.path) for _ in range(3)]
        await gate.arrived(3)
        gate.let_through(3)
        await asyncio.gather(*running)
        await pool.submit(tasks.echo, 1)
    by_lane: dict[int, list[tuple[float, float]]] = {}
    for event in tasks_of(path):
        by_lane.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    assert len(by_lane) == 3
    for spans in by_lane.values():
        assert all(before[1] <= after[0] + 0.02 for before, after in pairwise(sorted(spans)))
    names = [e["args"]["name"] for e in read_trace(path) if e["name"] == "thread_name"]
    assert sorted(names) == ["never ran", "worker 1", "worker 1 (2)", "worker 1 (3)"]


async def test_after_a_trace_the_pool_is_as_before(factory: WorkerFactory, path: Path) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        await pool.submit(tasks.echo, 1)
        (handle,) = pool._dispatcher.handles.values()
        usual = type(handle.link)
        async with pool.trace(path):
            assert type(pool._dispatcher) is not Dispatcher
            await pool.submit(tasks.echo, 1)
        assert (type(pool._dispatcher), type(handle), type(handle.link)) == (Dispatcher, WorkerHandle, usual)
        await pool.submit(tasks.echo, 2)
    assert outcomes(path) == [("echo", "succeeded")]


async def test_two_traces_at_a_time(factory: WorkerFactory, tmp_path: Path) -> None:
    async with WorkerPool(1, factory=factory) as pool, pool.trace(tmp_path / "outer.json"):
        async with pool.trace(tmp_path / "inner.json"):
            await pool.submit(tasks.echo, 1)
        await pool.submit(tasks.echo, 2)
    assert len(outcomes(tmp_path / "inner.json")) == 1
    assert len(outcomes(tmp_path / "outer.json")) == 2


async def test_what_runs_at_the_end_is_recorded_as_far_as_it_got(path: Path, gate: Gate) -> None:
    async with WorkerPool(1, factory="thread") as pool:
        async with pool.trace(path):
            running = pool.submit(tasks.pass_gate, gate.path)
            await gate.arrived()
        gate.let_through()
        await running
    assert outcomes(path) == [("pass_gate", "running")]


@pytest.mark.parametrize("end", ["shutdown", "kill"])
async def test_a_pool_that_ends_completes_the_trace(factory: WorkerFactory, path: Path, end: str) -> None:
    pool = WorkerPool(1, factory=factory)
    async with pool.trace(path) as trace:
        await pool.submit(tasks.echo, 1)
        if end == "kill":
            pool.kill()
        await pool.shutdown()
        assert "ended" in repr(trace)
    assert outcomes(path) == [("echo", "succeeded")]
    assert worker_events(path)["killed" if end == "kill" else "exited"] == 1
    with pytest.raises(StatusError):
        pool.trace(path).start()
    with pytest.raises(RuntimeError, match="once"):
        trace.start()
    await trace.stop()


@pytest.mark.parametrize("of", ["pool", "lease"])
async def test_a_task_that_runs_as_its_worker_is_killed_is_recorded_as_far_as_it_got(
    factory: WorkerFactory, path: Path, gate: Gate, of: str
) -> None:
    pool = WorkerPool(1, factory=factory)
    async with pool.trace(path):
        lease = pool.get_worker()
        running, waiting = lease.submit(tasks.apass_gate, gate.path), lease.submit(tasks.echo, 1)
        await gate.arrived()
        (pool if of == "pool" else lease).kill()
        ends = await asyncio.gather(running, waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [WorkerKilled] * 2
        await pool.shutdown()
    found = {event["name"]: event for event in tasks_of(path)}
    assert found["apass_gate"]["ph"] == "X"
    assert found["apass_gate"]["dur"] >= 0
    assert found["echo"]["ph"] == "i"


async def test_stopping_again_after_nobody_waited_for_the_end(factory: WorkerFactory, path: Path) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        trace = pool.trace(path)
        trace.start()
        await pool.submit(tasks.echo, 1)
        stopping = asyncio.ensure_future(trace.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await trace.stop()
    assert len(outcomes(path)) == 1


async def test_a_file_that_cannot_be_opened(factory: WorkerFactory, tmp_path: Path) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        with pytest.raises(FileNotFoundError):
            async with pool.trace(tmp_path / "no" / "such.json"):
                pytest.fail("it was entered")
        assert type(pool._dispatcher) is Dispatcher
        assert await pool.submit(tasks.echo, 1) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
async def test_a_full_disk_ends_the_trace_and_is_told_at_its_end(factory: WorkerFactory) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        trace = await pool.trace("/dev/full").__aenter__()
        await pool.submit(tasks.echo, 1)
        await eventually(lambda: type(pool._dispatcher) is Dispatcher)
        assert await pool.submit(tasks.echo, 2) == 2
        with pytest.raises(OSError, match="No space left"):
            await trace.stop()
        with pytest.raises(ValueError, match="its own") as caught:
            async with pool.trace("/dev/full"):
                raise ValueError("its own")
        assert "No space left" in caught.value.__notes__[0]


async def test_a_single_worker_and_a_lease_have_traces_too(factory: WorkerFactory, tmp_path: Path) -> None:
    worker: Worker = factory.create()
    async with worker, worker.trace(tmp_path / "worker.json"):
        await worker.submit(tasks.echo, 1)
    assert len(outcomes(tmp_path / "worker.json")) == 1
    async with WorkerPool(1, factory=factory) as pool, pool.get_worker() as lease:
        async with lease.trace(tmp_path / "lease.json"):
            await lease.submit(tasks.echo, 1)
    assert len(outcomes(tmp_path / "lease.json")) == 1


class Hostile(Task[None]):
    def __repr__(self) -> str:
        raise RuntimeError("no name")

    def run(self, environment: Any) -> None:
        raise ValueError("\ud800</script>")


async def test_hostile_names(factory: WorkerFactory, path: Path) -> None:
    def named() -> None:
        raise ValueError

    named.__qualname__ = '\ud800"\n</script>'
    async with WorkerPool(1, factory=factory) as pool, pool.trace(path):
        await asyncio.gather(pool.enqueue(Hostile()), pool.submit(named), return_exceptions=True)
    assert [event["name"] for event in tasks_of(path)] == ["Hostile", '\ud800"\n</script>']


class Failing(Observer):
    def ended(self, execution: Any, ending: Ending) -> None:
        raise RuntimeError("observer")


async def test_an_observer_that_fails_is_told_to_the_loop_and_harms_nothing(factory: WorkerFactory) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    async with WorkerPool(1, factory=factory) as pool:
        observer = Failing()
        observe(pool._dispatcher, observer)
        assert await pool.submit(tasks.echo, 1) == 1
        unobserve(pool._dispatcher, observer)
        unobserve(pool._dispatcher, observer)
        assert await pool.submit(tasks.echo, 2) == 2
    asyncio.get_running_loop().set_exception_handler(None)
    assert [str(context["exception"]) for context in told] == ["observer"]


async def test_an_observer_may_go_while_the_pool_ends(
    factory: WorkerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, observer = WorkerPool(1, factory=factory), Observer()
    observe(pool._dispatcher, observer)
    assert await pool.submit(tasks.echo, 1) == 1
    context = pool._dispatcher.context()
    close = context.aclose

    async def close_and_go() -> None:
        await close()
        unobserve(pool._dispatcher, observer)

    monkeypatch.setattr(context, "aclose", close_and_go)
    async with fail_after(20):
        assert await pool.shutdown() == 0


async def test_an_observer_may_go_while_a_worker_fails_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async with WorkerPool(1) as pool, fail_after(20):
        observer = Observer()

        def refuse(*_: object) -> None:
            asyncio.get_running_loop().call_soon(unobserve, pool._dispatcher, observer)
            raise OSError("no descriptors")

        monkeypatch.setattr(process_link, "open_ends", refuse)
        observe(pool._dispatcher, observer)
        with pytest.raises(WorkerStartError, match="no descriptors"):
            await pool.submit(tasks.echo, 1)


PROGRAM = """
import asyncio, os, signal, sys, time
from offloop import WorkerPool

async def main():
    pool = WorkerPool(1)
    await pool.trace(sys.argv[1]).__aenter__()
    await asyncio.gather(*(pool.submit(abs, number) for number in range(3000)))
    if sys.argv[2] == "kill":
        while os.path.getsize(sys.argv[1]) < 200_000:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(2)
    sys.exit(3)

asyncio.run(main())
"""


def run_program(path: Path, end: str) -> int:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(path), end]
    return subprocess.run(command, check=False, timeout=60).returncode


def test_a_program_that_is_killed_leaves_a_trace_that_can_be_read(path: Path) -> None:
    assert run_program(path, "kill") == -signal.SIGKILL
    assert not path.read_text().endswith("]\n")
    assert sum(event["cat"] == "task" for event in read_trace(path)) > 500


def test_a_program_that_exits_with_a_trace_on_leaves_it_complete(path: Path) -> None:
    assert run_program(path, "exit") == 3
    assert len(tasks_of(path)) == 3000
    assert json.loads(path.read_text())[-1]["name"] == "trace ends"


def test_reading_what_is_cut_off_anywhere(path: Path, tmp_path: Path) -> None:
    lines = ["[\n", '{"ph":"X","ts":1},\n', '{"ph":"i","ts":2},\n', '{"ph":"i","ts":3}', "\n]\n"]
    text = "".join(lines)
    for length in range(len(text) + 1):
        path.write_text(text[:length])
        events = read_trace(path)
        ends = [text.index("}", text.index(f":{n}}}")) + 1 for n in (1, 2, 3)]
        assert len(events) == sum(length >= end for end in ends), length
    for wrong in (
        '[\n{"ph":"X"},\nnonsense\n{"ph":"X"},\n',
        "1",
        '{"a": 1}',
        "[1]",
        "hello",
        '[{"ph":1}]',
        '[{"ph":"X","ts":"1"}]',
    ):
        path.write_text(wrong)
        with pytest.raises(TraceError):
            read_trace(path)
    path.write_text('{"traceEvents": [{"ph": "X"}]}')
    assert read_trace(path) == [{"ph": "X"}]
