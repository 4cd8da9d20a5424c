"""Inline workers: what is pickled on its way, and messages."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NamedTuple, NoReturn

import pytest
from support import tasks

from offloop import Environment, SerializationError, TaskFailed, WorkerStartError, current_task
from offloop.contexts.imports import importable
from offloop.testing import InlineWorkerFactory, crossing
from offloop.wire.definitions import Definitions

pickling = InlineWorkerFactory(pickling=True)


async def test_pickling_copies_arguments_and_results() -> None:
    given = [1]
    async with pickling.create() as worker:
        got = await worker.submit(tasks.echo, given)
        assert got == given
        assert got is not given


class TupleTask(NamedTuple):
    left: int
    right: int
    unused: int = 0

    def run(self, environment: Environment) -> int:
        return self.left + self.right


async def test_a_task_that_is_a_tuple_is_taken_for_a_task() -> None:
    async with pickling.create() as worker:
        assert await worker.enqueue(TupleTask(1, 2)) == 3


async def test_what_changes_after_submit_does_not_change_the_task() -> None:
    given = [1]
    async with pickling.create() as worker:
        await worker.submit(tasks.echo, None)
        first, execution = worker.submit(asyncio.sleep, 0), worker.submit(tasks.echo, given)
        await first
        given.append(2)
        assert await execution in ([1], [1, 2])  # it is pickled when it is handed to its worker
        given.append(3)
        assert 3 not in execution.result()


async def test_the_options_of_a_pickling_factory_have_to_be_pickled() -> None:
    lock = threading.Lock()
    async with InlineWorkerFactory(bootstrap=lambda _: lock.locked(), pickling=True).create() as worker:
        with pytest.raises(WorkerStartError, match="lock"):
            await worker.submit(tasks.echo, 1)
    prepared = {"key": "value"}
    async with InlineWorkerFactory(bootstrap=lambda e: e.update(prepared), pickling=True).create() as worker:
        assert await worker.enqueue(tasks.Recall("key")) == "value"


class InterruptsOnLoad(Exception):
    def __reduce__(self) -> Any:
        return tasks.fail_by_name, ("KeyboardInterrupt",)


def raise_what_interrupts() -> NoReturn:
    raise InterruptsOnLoad("text")


async def test_code_that_interrupts_while_pickling_is_contained() -> None:
    async with pickling.create() as worker:
        with pytest.raises(TaskFailed, match="InterruptsOnLoad"):
            await worker.submit(raise_what_interrupts)
        bad = tasks.FailsOnLoad(tasks.fail_by_name, "KeyboardInterrupt")
        with pytest.raises(SerializationError, match="KeyboardInterrupt") as caught:
            await worker.submit(tasks.echo, bad)
        assert isinstance(caught.value.__cause__, TaskFailed)
        with pytest.raises(SerializationError, match="KeyboardInterrupt"):
            await worker.submit(lambda: bad)
        with pytest.raises(
            SerializationError, match=r"^a result could not be loaded"
        ):  # no type of ours is named
            await worker.map(lambda name: tasks.FailsOnLoad(tasks.fail_by_name, name), ["KeyboardInterrupt"])
        assert await worker.submit(tasks.echo, 1) == 1


async def test_definitions_that_are_no_longer_used_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[Any] = []

    class CountingDecoder(crossing.Decoder):
        def __init__(self) -> None:
            super().__init__()
            known.append(self)

    monkeypatch.setattr(crossing, "Decoder", CountingDecoder)
    monkeypatch.setattr(
        "offloop.testing.inline.new_definitions", lambda: Definitions(importable, capacity=10)
    )
    async with pickling.create() as worker:
        for start in range(0, 1000, 100):
            adders = [lambda n, k=k: n + k for k in range(start, start + 100)]
            held = [worker.submit(adder, 1) for adder in adders]
            for execution in held[::3]:
                execution.cancel()
            await asyncio.wait(held)
            assert [e.result() for e in held if not e.cancelled()] == [
                k + 1 for k in range(start, start + 100) if (k - start) % 3
            ]
    (decoder,) = known
    assert len(decoder._objects) + len(decoder._payloads) < 400


# --- messages -------------------------------------------------------------------------------------


async def talk() -> list[Any]:
    """Send what comes back, until there is None."""
    channel, got = current_task().channel, []
    while (message := await channel.areceive()) is not None:
        got.append(message)
        await channel.asend(message)
    return got


@pytest.mark.parametrize("is_pickling", [False, True])
async def test_an_async_task_talks_with_its_caller(is_pickling: bool) -> None:
    async with InlineWorkerFactory(pickling=is_pickling).create() as worker:
        execution = worker.submit(talk)
        for number in range(200):  # more than there is room for
            message = [number]
            await execution.channel.send(message)
            received = await execution.channel.receive()
            assert received == message
            assert (received is message) is not is_pickling
        await execution.channel.send(None)
        assert await execution == [[number] for number in range(200)]


def wait_for_a_message() -> Any:
    return current_task().channel.receive()


async def test_a_sync_task_that_would_wait_for_its_caller_is_told_so() -> None:
    async with InlineWorkerFactory().create() as worker:
        with pytest.raises(RuntimeError, match="would wait for ever"):
            await worker.submit(wait_for_a_message)
        assert await worker.submit(tasks.echo, 1) == 1


async def send_what_cannot_be_sent(bad: bool) -> str:
    channel = current_task().channel
    if bad:
        with pytest.raises(SerializationError, match="a message of type"):
            await channel.asend(threading.Lock())
    with pytest.raises(SerializationError, match="can't be loaded"):
        await channel.areceive()
    await channel.asend(tasks.FailsOnLoad(tasks.fail, ValueError("bomb")))
    return "went on"


async def test_messages_that_cannot_be_pickled_or_loaded_fail_whoever_sends_or_receives_them() -> None:
    async with InlineWorkerFactory(pickling=True).create() as worker:
        execution = worker.submit(send_what_cannot_be_sent, True)
        with pytest.raises(SerializationError, match="a message of type"):
            await execution.channel.send(threading.Lock())
        await execution.channel.send(tasks.FailsOnLoad(tasks.fail, ValueError("bomb")))
        with pytest.raises(SerializationError, match="could not be loaded"):
            await execution.channel.receive()
        assert await execution == "went on"
