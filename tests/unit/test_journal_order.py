"""A living worker's journal is read: what the worker sends meanwhile is never passed by its stream's end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from offloop.child.port import SocketPort
from offloop.contexts import far, messages
from offloop.contexts.oom import OomWatch
from offloop.contexts.process_link import ProcessLink
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.starters import LIMIT, Starter
from offloop.shm.ledger import Ledger
from offloop.wire.definitions import Definitions
from offloop.wire.frames import ITEM, READY, RESULT, FrameDecoder

SILENT: Any = SimpleNamespace(line=())
ID = 7


class PlayedWorker(Starter):
    """Starts no process: the test says what the worker writes and sends, and when."""

    def __init__(self, *_: Any) -> None:
        self._rest: Callable[[], None] = lambda: None
        self._wrote = 0

    def spawn(self, fds: tuple[int, int, int], asker: Any) -> None:
        """Take one end of everything."""
        data, self._control, page = (os.dup(fd) for fd in fds)
        self._sock = socket.socket(fileno=data)
        self._ledger = Ledger(page)
        os.close(page)
        self._port = SocketPort(self._sock, self._ledger, LIMIT, SILENT)
        self._port.say(READY)

    def write(self, items: int) -> None:
        """Write items of a stream, without sending them; but the very first is always sent."""
        self._port._flushed = float("inf")
        for _ in range(items):
            self._port.item(ID, 0, self._wrote, self._wrote)
            self._wrote += 1

    def report(self, first: int, count: int) -> None:
        """Write so many results of other tasks, and send them; the last one stays unsent."""
        for id in range(first, first + count):
            self._port.flush()
            self._port.result(id, b"x" * 100, 0.0, 0.0)

    def finish(self) -> None:
        """Send what is written, and write the stream's end."""
        self._port.flush()
        self._port.result(ID, None, 0.0, 0.0)

    def close(self) -> None:
        """Let go of it."""
        self._sock.close()
        os.close(self._control)
        self._ledger.close()


class Owner:
    """Takes the items of one stream as they come, and what came before its end."""

    def __init__(self) -> None:
        self.expected = 0
        self.at_end: int | None = None

    def put(self, value: int, size: int) -> None:
        assert value == self.expected
        self.expected += 1

    def link_stream(self, id: int) -> Any:
        return self if self.at_end is None else None

    def link_result(self, *_: Any) -> None:
        if self.at_end is None:
            self.at_end = self.expected

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.fixture
def worker() -> Iterator[PlayedWorker]:
    played = PlayedWorker()
    yield played
    played.close()


def amidst(method: Callable[..., Any], act: Callable[[], None], *, first: bool) -> Callable[..., Any]:
    """A method before or behind which something happens, once."""
    pending = [act]

    def changed(*args: Any) -> Any:
        if first and pending:
            pending.pop()()
        try:
            return method(*args)
        finally:
            if pending:
                pending.pop()()

    return changed


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("step", ["unsent", "_drain"])
async def test_items_sent_while_the_parent_looks_come_before_the_end(
    worker: PlayedWorker, step: str, first: bool
) -> None:
    loop, owner, unused = asyncio.get_running_loop(), Owner(), SimpleNamespace()
    link = ProcessLink(
        loop, worker, Definitions(lambda _: True), WorkerOptions(1, 1, None, None), owner, OomWatch(), unused
    )  # type: ignore[arg-type]
    link.start()
    worker.write(2)
    link._readable()  # hears that the worker is ready
    worker.write(3)
    target = link.ledger if step == "unsent" else link
    setattr(target, step, amidst(getattr(target, step), worker.finish, first=first))
    link.poll()
    link.poll()
    assert owner.at_end == 5
    link.abandon()


async def test_a_look_in_haste_takes_a_part_and_what_is_unsent_when_the_rest_has_come(
    worker: PlayedWorker,
) -> None:
    seen: list[int] = []
    owner: Any = SimpleNamespace(link_result=lambda id, *_: seen.append(id))
    owner.link_ready = owner.link_delivered = lambda: None
    loop, unused = asyncio.get_running_loop(), SimpleNamespace()
    link = ProcessLink(
        loop, worker, Definitions(lambda _: True), WorkerOptions(1, 1, None, None), owner, OomWatch(), unused
    )  # type: ignore[arg-type]
    link.start()
    link._readable()  # hears that the worker is ready
    worker.report(1, 200)
    link.poll(until=0.0)
    assert 0 < len(seen) < 199, "it gives way"
    while len(seen) < 200:
        await asyncio.sleep(0)  # for the rest of what was received
        link.poll(until=0.0)
    assert seen == list(range(1, 201)), "what was unsent comes behind what was sent before it"
    link.abandon()


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("step", ["unsent", "_drain"])
async def test_items_sent_while_a_cluster_worker_looks_come_before_the_end(
    worker: PlayedWorker, step: str, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "TemplateStarter", lambda *_: worker)
    there = far.FarWorker(messages.pack(messages.Order(1, (), {}, 60.0)))
    await there.open()
    worker.write(4)
    there._peek()
    target: Any = there._ledger if step == "unsent" else there
    setattr(target, step, amidst(getattr(target, step), worker.finish, first=first))
    seen, frames = [], FrameDecoder(LIMIT)
    for number in range(2):
        reply = messages.Reply(*messages.unpack(await there.pull(number, 0, True)))
        seen += [record for chunk in reply.data for record in frames.feed(chunk)]
        seen += FrameDecoder(LIMIT).feed(reply.journal)
        there._peek()
    ended = next(at for at, record in enumerate(seen) if record[0] == RESULT)
    assert {record[4] for record in seen[:ended] if record[0] == ITEM} == {0, 1, 2, 3}
    await there.close()


async def test_of_a_flood_no_journal_is_told_before_what_went_before_it(
    worker: PlayedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "TemplateStarter", lambda *_: worker)
    monkeypatch.setattr(far, "MOST", 0)
    there = far.FarWorker(messages.pack(messages.Order(1, (), {}, 60.0)))
    await there.open()
    worker.write(4)
    worker.finish()
    there._peek()
    there._readable()
    reply = messages.Reply(*messages.unpack(await there.pull(0, 0, True)))
    assert reply.data
    assert not reply.journal
    await there.close()
