"""The parent's event loop: large copies give way to other callbacks, and the memory is tidied up."""

from __future__ import annotations

import asyncio
import os
import socket
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from exchange_ends import (
    End,
    array,
    descriptors,
    ends,
    pickled,
)

from offloop.child.layout import Copy, Part, WithDescriptor
from offloop.contexts import lending as lending_module, outbox as outbox_module
from offloop.contexts.lending import Lending
from offloop.contexts.outbox import Outbox
from offloop.shm import segments
from offloop.wire.frames import (
    LOANS,
    frame,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

__all__ = ["ends"]

# --- the parent's event loop -----------------------------------------------------------------------


class Pipe:
    """An outbox, and whatever came out of it."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.outbox = Outbox(asyncio.get_running_loop(), self.near, pytest.fail)

    async def read(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += await asyncio.get_running_loop().sock_recv(self.far, 1 << 16)
        return got

    def close(self) -> None:
        self.outbox.close()
        self.near.close()
        self.far.close()


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slice of 1,000 bytes uses the budget up."""
    monkeypatch.setattr(outbox_module, "BUDGET", -1.0)
    monkeypatch.setattr(outbox_module, "SLICE", 1000)


async def count_turns(done: Callable[[], bool]) -> int:
    """How many turns the event loop has until something is done."""
    turns = 0
    while not done():
        await asyncio.sleep(0)
        turns += 1
    return turns


@pytest.mark.usefixtures("small_slices")
async def test_other_callbacks_run_between_the_slices_of_a_copy() -> None:
    pipe = Pipe()
    source, target = bytes(range(250)) * 80, bytearray(20_000)
    pipe.outbox.write([Copy(memoryview(target), memoryview(source)), b"behind"])
    turns = await count_turns(lambda: bytes(target) == source)
    assert 18 <= turns <= 21
    assert await pipe.read(6) == b"behind"
    pipe.close()


@pytest.mark.usefixtures("small_slices")
async def test_a_frame_never_overtakes_the_copies_before_it() -> None:
    pipe = Pipe()
    sources = [bytes([number]) * 5_000 for number in b"123"]
    targets = [bytearray(5_000) for _ in sources]
    for source, target in zip(sources, targets, strict=True):
        pipe.outbox.write([Copy(memoryview(target), memoryview(source)), source[:1]])
    for number, source in enumerate(sources):
        assert await pipe.read(1) == source[:1]
        assert targets[: number + 1] == sources[: number + 1]
    pipe.close()


@pytest.mark.usefixtures("small_slices")
async def test_closing_during_a_copy_lets_go_of_everything() -> None:
    pipe = Pipe()
    before = descriptors()
    source, target = bytearray(50_000), bytearray(50_000)
    pipe.outbox.write(
        [Copy(memoryview(target), memoryview(source)), WithDescriptor(b"x", os.dup(0)), b"never sent"]
    )
    await asyncio.sleep(0)
    pipe.outbox.close()
    await asyncio.sleep(0)
    source.clear()  # which is refused while anything holds its memory
    target.clear()
    assert descriptors() == before
    pipe.close()


async def test_a_lot_to_write_goes_on_when_the_socket_takes_more() -> None:
    pipe = Pipe()
    target = bytearray(10)
    large = bytes(range(256)) * 8_000
    pipe.outbox.write([large, Copy(memoryview(target), memoryview(b"0123456789")), b"end"])
    assert bytes(target) == bytes(10), "the copy waits for its turn"
    assert await pipe.read(len(large) + 3) == large + b"end"
    assert bytes(target) == b"0123456789"
    pipe.close()


class Timers:
    """What was to be called later: to be called by hand."""

    def __init__(self) -> None:
        self.tidy: list[Any] = []
        self.settle: list[Any] = []

    def call_later(
        self, delay: float, callback: Callable[[], object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        kinds = {lending_module.TIDY_AFTER: self.tidy, lending_module.SETTLE_AFTER: self.settle}
        kinds[delay].append(callback)
        return asyncio.TimerHandle(0.0, callback, args, asyncio.get_running_loop(), context)


def lending(written: list[Part], monkeypatch: pytest.MonkeyPatch) -> tuple[Lending, Timers]:
    """A parent's share, and the timers that it sets."""
    timers = Timers()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", timers.call_later)
    return Lending(loop, written.extend), timers


def test_segments_in_disuse_are_looked_for_when_they_are_due() -> None:
    assert lending_module.TIDY_AFTER > segments.IDLE


async def test_disuse_is_looked_for_after_the_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Part] = []
    share, timers = lending(written, monkeypatch)
    share.used()
    share.used()
    assert len(timers.tidy) == 1
    timers.tidy.pop()()
    assert written == [frame(LOANS)], "the worker is nudged"
    assert len(timers.tidy) == 1, "the second use was not long enough ago"
    timers.tidy.pop()()
    assert (len(written), timers.tidy) == (2, [])
    share.close()


async def test_disuse_is_looked_for_again_while_memory_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    share, timers = lending([], monkeypatch)
    share.exchange.lay_out(*pickled(array()))
    before = share.exchange.take_before()
    share.used()
    timers.tidy.pop()()
    assert len(timers.tidy) == 1
    del before
    share.close()


def borrowing(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> tuple[Lending, list[Part], Timers, Callable[[], Any]]:
    """A parent's share, what it writes, its timers, and what borrows an array of the worker's."""
    _, worker = ends
    written: list[Part] = []
    share, timers = lending(written, monkeypatch)
    worker.peer.exchange = share.exchange
    return share, written, timers, lambda: worker.peer.load(worker.send_object(array()))


async def test_the_end_of_a_loan_is_told_soon_and_followed_by_a_look(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    share, written, timers, borrow = borrowing(ends, monkeypatch)
    got = [borrow(), borrow()]
    got.clear()
    assert timers.settle == [], "set where it can't be in the midst of setting another one"
    await asyncio.sleep(0)
    assert written == []
    (tell,) = timers.settle
    tell()
    assert [bytes(part)[:3] for part in written if isinstance(part, bytes)] == [frame(LOANS)[:3]]
    assert len(timers.tidy) == 1
    share.close()


async def test_the_end_of_a_loan_goes_along_with_what_is_sent_before_that(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    share, written, timers, borrow = borrowing(ends, monkeypatch)
    for is_sent_soon in (True, False):
        got = borrow()
        del got
        await asyncio.sleep(0)
        if is_sent_soon:
            assert [bytes(part)[:3] for part in share.exchange.settle()] == [frame(LOANS)[:3]]
        timers.settle.pop()()
        assert len(written) == (0 if is_sent_soon else 1)
    share.close()


async def test_a_loan_that_ends_on_another_thread_is_told_too(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    share, written, _, borrow = borrowing(ends, monkeypatch)
    kept = [borrow()]
    await asyncio.to_thread(kept.clear)
    await count_turns(lambda: bool(written))
    share.close()


def test_a_loan_that_ends_after_its_event_loop_is_no_error(ends: tuple[End, End]) -> None:
    _, worker = ends
    loop = asyncio.new_event_loop()
    share = Lending(loop, lambda parts: None)
    worker.peer.exchange = share.exchange
    got = worker.peer.load(worker.send_object(array()))
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del got
    share.close()
