"""OpenTelemetry: a span for each task, below the caller's, and current in the worker."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support import spans, tasks
from support.gates import Gate

import offloop
from offloop import (
    Executor,
    ProcessWorkerFactory,
    TaskTimeout,
    WorkerCrashed,
    WorkerFactory,
    WorkerPool,
    register_opentelemetry,
)
from offloop.dispatcher import Dispatcher
from offloop.registry import newcomers

sdk = pytest.importorskip("opentelemetry.sdk.trace")
from opentelemetry import baggage, context  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import StatusCode  # noqa: E402


class Recorded:
    """A provider, and the spans that have ended there."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = sdk.TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def caller(self) -> Any:
        """A span to call from."""
        return self.provider.get_tracer("test").start_as_current_span("caller")

    def all(self) -> list[Any]:
        """The tasks' spans, in the order in which they were begun."""
        found = [span for span in self._exporter.get_finished_spans() if span.name != "caller"]
        return sorted(found, key=lambda span: span.attributes["offloop.task.id"])

    def one(self) -> Any:
        """The only one."""
        (span,) = self.all()
        return span


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    made = Recorded()
    stop = register_opentelemetry(made.provider)
    yield made
    stop()
    assert newcomers == []
    made.provider.shutdown()


def ids(span: Any) -> tuple[str, str]:
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


async def test_a_span_is_below_the_callers_and_current_in_the_task(
    factory: WorkerFactory, recorded: Recorded
) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        with recorded.caller() as caller:
            there = [
                await pool.submit(spans.seen),
                await pool.submit(spans.aseen),
                *await pool.map(spans.seen_for, [1, 2], chunksize=1),
            ]
    found = recorded.all()
    assert [span.name for span in found] == ["seen", "aseen", "seen_for", "seen_for"]
    assert [where[:2] for where in there] == [ids(span) for span in found]
    for span in found:
        assert ids(span)[0] == f"{caller.get_span_context().trace_id:032x}"
        assert span.parent.span_id == caller.get_span_context().span_id
        assert span.attributes["offloop.outcome"] == "succeeded"
        assert span.attributes["offloop.worker.id"] == 1
        (started,) = span.events
        assert span.start_time <= started.timestamp <= span.end_time
        assert span.status.status_code is StatusCode.UNSET


async def test_without_a_caller_a_span_is_a_root_and_baggage_goes_along(
    factory: WorkerFactory, recorded: Recorded
) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        token = context.attach(baggage.set_baggage("user", "ann"))
        try:
            *_, user = await pool.submit(spans.seen)
        finally:
            context.detach(token)
    assert user == "ann"
    assert recorded.one().parent is None


async def test_spans_made_in_a_worker_are_children(recorded: Recorded) -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(bootstrap=spans.set_up)) as pool:
        assert await pool.submit(spans.make_child) == ids(recorded.one())


async def test_errors_are_recorded(factory: WorkerFactory, recorded: Recorded) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        with pytest.raises(ValueError, match="no"):
            await pool.submit(tasks.fail, ValueError("no"))
    span = recorded.one()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError: no")
    assert [event.name for event in span.events] == ["started", "exception"]
    assert span.events[1].attributes["exception.type"] == "ValueError"


async def test_tasks_that_are_stopped(factory: WorkerFactory, recorded: Recorded, gate: Gate) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        running = pool.submit(tasks.apass_gate, gate.path)
        await gate.arrived()
        waiting = pool.submit(tasks.echo, 1)
        for execution in (waiting, running):
            execution.cancel()
        await asyncio.wait([waiting, running])
        with pytest.raises(TaskTimeout):
            await pool.options(timeout=0.01).submit(tasks.apass_gate, gate.path)
    first, second, third = recorded.all()
    assert (first.attributes["offloop.outcome"], first.status.status_code) == ("cancelled", StatusCode.UNSET)
    assert second.attributes["offloop.outcome"] == "cancelled"
    assert second.events == ()
    assert (third.attributes["offloop.outcome"], third.status.status_code) == ("timed_out", StatusCode.ERROR)


async def test_a_task_that_is_tried_again_has_one_span(recorded: Recorded, tmp_path: Any) -> None:
    async with WorkerPool(1) as pool:
        await pool.options(retries=1).submit(tasks.crash_at_first, str(tmp_path / "marker"))
        with pytest.raises(WorkerCrashed):
            await pool.submit(tasks.exit_process, 3)
    again, crashed = recorded.all()
    assert [event.name for event in again.events] == ["started", "worker died", "started"]
    assert again.attributes["offloop.attempt"] == 2
    assert crashed.attributes["offloop.outcome"] == "crashed"


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_an_error_without_a_text_ends_its_span_too(recorded: Recorded) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, problem: told.append(problem))
    async with WorkerPool(1, factory="thread") as pool:
        with pytest.raises(HostileError):
            await pool.submit(tasks.fail, HostileError())
    asyncio.get_running_loop().set_exception_handler(None)
    assert recorded.one().status.status_code is StatusCode.ERROR
    assert [str(problem["exception"]) for problem in told] == ["no text"]


async def test_it_ends_for_pools_that_are_there_and_for_those_to_come(factory: WorkerFactory) -> None:
    made = Recorded()
    stop = register_opentelemetry(made.provider)
    async with WorkerPool(1, factory=factory) as pool:
        await pool.submit(tasks.echo, 1)
        stop()
        stop()
        await asyncio.sleep(0)
        assert type(pool._dispatcher) is Dispatcher
        await pool.submit(tasks.echo, 2)
    async with WorkerPool(1, factory=factory) as pool:
        await pool.submit(tasks.echo, 3)
    assert made.one().name == "echo"
    made.provider.shutdown()


def test_it_may_end_in_a_callback_of_a_future(factory: WorkerFactory) -> None:
    stop = register_opentelemetry(Recorded().provider)
    with Executor(1, factory=factory) as executor:
        future = executor.submit(tasks.echo, 1)
        future.add_done_callback(lambda _: stop())  # called where the pool is settling the task
        assert future.result() == 1
        assert executor.submit(tasks.echo, 2).result() == 2


def test_an_executor_links_to_who_submits(factory: WorkerFactory, recorded: Recorded) -> None:
    with Executor(1, factory=factory) as executor, recorded.caller() as caller:
        trace_id, _, _ = executor.submit(spans.seen).result()
    assert trace_id == f"{caller.get_span_context().trace_id:032x}"
    assert recorded.one().parent.span_id == caller.get_span_context().span_id


async def test_without_a_provider_nothing_is_carried(factory: WorkerFactory) -> None:
    stop = register_opentelemetry(sdk.trace_api.NoOpTracerProvider())
    async with WorkerPool(1, factory=factory) as pool:
        trace_id, _, _ = await pool.submit(spans.seen)
    stop()
    assert int(trace_id, 16) == 0


PROGRAM = """
import asyncio, sys

async def main():
    import offloop
    async with offloop.WorkerPool(1) as pool:
        code = "[name for name in __import__('sys').modules if 'telemetry' in name]"
        loaded = await pool.submit(eval, code)
    print(loaded, [name for name in sys.modules if "telemetry" in name])

asyncio.run(main())
sys.modules["opentelemetry"] = None
import offloop
try:
    offloop.register_opentelemetry()
except ImportError as error:
    print(error)
"""


def test_who_does_not_ask_for_it_loads_nothing_of_it() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ,
    )
    assert run.stdout.splitlines() == [
        "[] []",
        "register_opentelemetry() needs OpenTelemetry: pip install 'offloop[otel]'",
    ]
    assert offloop.register_opentelemetry is register_opentelemetry
