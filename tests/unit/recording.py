"""A conversation about tasks of each kind between a real worker process and its parent, taken down."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from linkends import Tap, tapped
from support import speaking, streaming, talking, tasks
from support.bounds import eventually

from offloop import Environment, ProcessWorkerFactory, Worker
from offloop.contexts import process_link
from offloop.contexts.starters import LIMIT
from offloop.wire.frames import (
    CANCELLED,
    FAILED,
    HEADER,
    HEADER_SIZE,
    LARGE,
    READY,
    RESULT,
    UNLOADABLE,
    FrameDecoder,
    Record,
)

OUTCOMES = (RESULT, FAILED, CANCELLED, UNLOADABLE)


def send_all_in_band(environment: Environment) -> None:
    """A bootstrap: what is large goes by the socket, and so its bytes are in what was recorded."""
    from offloop.child import layout

    layout.THRESHOLD = 1 << 60


def enqueue_all(worker: Worker) -> list[asyncio.Future[Any]]:
    """One task of each kind; returns what becomes of each, in the order of their ids."""
    stream = worker.stream(streaming.yield_all, [b"a", "b", None])

    async def consume() -> list[Any]:
        return [item async for item in stream]

    return [
        asyncio.ensure_future(consume()),
        worker.submit(abs, -1),
        worker.submit(tasks.fail, ValueError("no")),
        worker.submit(speaking.say, 30, "said"),
        worker.submit(tasks.echo, tasks.FailsOnLoad(int, "no number")),
        worker.submit(talking.report_each, 2),
        worker.submit(bytes, LARGE),
        worker.submit(tasks.await_for_ever),
        worker.submit(tasks.echo, None),
    ]


def outcome(future: asyncio.Future[Any]) -> Any:
    """How it ended; it has ended, and nobody else looks."""
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    return future.result() if error is None else type(error).__name__


@dataclass
class Recording:
    """What a worker said on its two sockets, what its parent told it on these, and how each task ended."""

    data: bytes
    control: bytes
    told: bytes
    told_beside: bytes
    outcomes: list[Any]

    @property
    def beginning(self) -> int:
        """How many bytes it takes to say that the worker is ready."""
        kinds = [record[0] for record in complete(self.data)]
        return borders(self.data)[kinds.index(READY) + 1]

    def expected(self, cut: int) -> list[Any]:
        """How each task has to end, if that is all that came; an ellipsis: by the worker's death."""
        ended = {record[3] for record in complete(self.data[:cut]) if record[0] in OUTCOMES}
        return [was if id in ended else ... for id, was in enumerate(self.outcomes, 1)]


def complete(data: bytes) -> list[Record]:
    """The frames that have come in full."""
    return FrameDecoder(LIMIT).feed(data)


def borders(data: bytes) -> list[int]:
    """Where each frame begins, and the last one ends."""
    found = [0]
    while found[-1] < len(data):
        found.append(found[-1] + HEADER_SIZE + HEADER.unpack_from(data, found[-1])[5])
    return found


def in_bulk(data: bytes, at: int) -> bool:
    """Whether a byte lies within what is large, where one is as good as another."""
    return any(
        first + HEADER_SIZE + 99 < at < last - 99
        for first, last in pairwise(borders(data))
        if last - first > LARGE
    )


def spoilt(data: bytes, at: int, choice: random.Random) -> bytes:
    """The same but for one byte."""
    return data[:at] + bytes([data[at] ^ choice.randrange(1, 256)]) + data[at + 1 :]


async def record(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Have a real worker run all tasks."""
    taps: list[Tap] = []
    with monkeypatch.context() as patch:
        patch.setattr(process_link, "open_ends", tapped(taps))
        factory = ProcessWorkerFactory(bootstrap=send_all_in_band, concurrency=16)
        async with factory.create() as worker:
            futures = enqueue_all(worker)
            await eventually(lambda: futures[-2].started_at is not None)  # type: ignore[attr-defined]
            futures[-2].cancel()
            await asyncio.wait(futures)
            (data, control) = taps
            said = bytes(data.received), bytes(control.received)
        told = bytes(data.sent), bytes(control.sent)
    return Recording(*said, *told, [outcome(future) for future in futures])
