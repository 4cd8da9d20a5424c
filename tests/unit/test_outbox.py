"""The outbox over a real socket pair with small buffers: everything arrives, in order, or nobody minds."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from offloop.child.layout import Copy, WithDescriptor
from offloop.contexts import outbox as module
from offloop.contexts.outbox import BUDGET, RETRY_AFTER, Outbox

Pair = tuple[socket.socket, socket.socket]
#: Larger than the sockets' buffers together, whatever the kernel makes of the sizes asked for.
FLOOD = 1 << 20


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The outbox's socket and its peer's."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 4096)
    yield ours, theirs
    ours.close()
    theirs.close()


def never(reason: str) -> None:
    """No test but those of it is to come here."""
    pytest.fail(reason)


def letters(size: int, at: int = 0) -> bytes:
    """Bytes of which no two stretches are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(at, at + size // 4 + 1))[:size]


async def receive(sock: socket.socket, size: int, step: int = 1 << 16) -> bytes:
    """Receive exactly so many bytes."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        part = await loop.sock_recv(sock, min(step, size - len(data)))
        assert part, "it ended early"
        data += part
    return bytes(data)


def is_empty(sock: socket.socket) -> bool:
    try:
        sock.recv(1)
    except BlockingIOError:
        return True
    return False


async def test_what_the_socket_takes_is_sent_at_once(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(asyncio.get_running_loop(), ours, never)
    outbox.write([b"one", b"two", memoryview(b"three")])
    assert theirs.recv(100) == b"onetwothree"


async def test_more_than_the_socket_takes_arrives_in_order_without_blocking(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(asyncio.get_running_loop(), ours, never)
    parts = [letters(size, at=size) for size in (FLOOD, 10, 20_000, 0, 1, FLOOD // 2)]
    outbox.write([parts[0]])
    outbox.write(parts[1:4])
    outbox.write(parts[4:])
    whole = b"".join(parts)
    assert await receive(theirs, len(whole), step=5000) == whole
    outbox.write([b"and on"])
    assert await receive(theirs, 6) == b"and on"
    assert is_empty(theirs)


async def test_more_parts_than_one_system_call_takes_arrive_in_order(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(asyncio.get_running_loop(), ours, never)
    parts = [letters(17_000 + n, at=n * 5000) for n in range(300)]
    outbox.write(parts)
    assert await receive(theirs, sum(map(len, parts))) == b"".join(parts)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writes=st.lists(st.lists(st.sampled_from([0, 1, 100, 16_384, 16_385, 40_000]), max_size=70), max_size=6),
    step=st.sampled_from([1000, 7001, 1 << 16]),
    reads_between=st.booleans(),
)
def test_any_sizes_in_any_number_arrive_in_order(
    run_loop: Any, writes: list[list[int]], step: int, reads_between: bool
) -> None:
    async def check() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            outbox = Outbox(asyncio.get_running_loop(), ours, never)
            expected, received = b"", b""
            for number, sizes in enumerate(writes):
                parts = [letters(size, at=1000 * number + n) for n, size in enumerate(sizes)]
                outbox.write(parts)
                expected += b"".join(parts)
                if reads_between and len(expected) > len(received):
                    received += await asyncio.get_running_loop().sock_recv(theirs, step)
            received += await receive(theirs, len(expected) - len(received), step)
            assert received == expected
            assert is_empty(theirs)
            outbox.close()

    run_loop(check())


async def test_a_large_part_goes_out_uncopied(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(asyncio.get_running_loop(), ours, never)
    part = bytearray(FLOOD)
    outbox.write([memoryview(part)])
    part[-1] = 7  # not sent yet: what the socket gets is the part itself
    assert (await receive(theirs, FLOOD))[-1] == 7
    part.append(0)  # which is let go of once it was sent: it may be resized again


@pytest.fixture
def costly_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With each look at the clock a part of the budget has passed."""
    looks = count(1)
    monkeypatch.setattr(module, "monotonic", lambda: next(looks) * BUDGET * 0.4)


@pytest.mark.usefixtures("costly_looks")
async def test_many_copies_take_no_more_of_a_turn_than_one(pair: Pair) -> None:
    ours, theirs = pair
    targets = [bytearray(4) for _ in range(10)]
    outbox = Outbox(asyncio.get_running_loop(), ours, never)
    outbox.write([Copy(memoryview(target), memoryview(b"copy")) for target in targets])
    outbox.write([b"behind them"])
    turns = [targets.count(b"copy")]
    while outbox.waits:
        assert is_empty(theirs)
        await asyncio.sleep(0)
        turns.append(targets.count(b"copy"))
    assert turns == [3, 6, 9, 10]
    assert theirs.recv(20) == b"behind them"


@pytest.mark.usefixtures("costly_looks")
async def test_the_copies_for_several_workers_share_a_turn(pair: Pair) -> None:
    targets = [[bytearray(4) for _ in range(6)] for _ in range(3)]
    outboxes = [Outbox(asyncio.get_running_loop(), pair[0], never) for _ in targets]
    for outbox, own in zip(outboxes, targets, strict=True):
        outbox.write([Copy(memoryview(target), memoryview(b"copy")) for target in own])
    turns = [[own.count(b"copy") for own in targets]]
    while any(outbox.waits for outbox in outboxes):
        await asyncio.sleep(0)
        turns.append([own.count(b"copy") for own in targets])
    assert turns == [[3, 2, 1], [4, 3, 2], [5, 4, 3], [6, 6, 6]]


async def test_a_part_of_wide_items_is_sent_byte_by_byte(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(asyncio.get_running_loop(), ours, never)
    wide = memoryview(letters(40_000)).cast("Q")
    outbox.write([b"<", wide, b">"])
    assert await receive(theirs, 40_002) == b"<" + letters(40_000) + b">"


async def test_a_peer_that_is_gone_is_no_error(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(asyncio.get_running_loop(), ours, never)
    theirs.close()
    outbox.write([b"nobody reads this"])
    assert outbox.closed
    outbox.write([b"nor this", bytes(FLOOD)])
    assert outbox.closed


async def test_a_peer_that_goes_while_the_rest_waits_is_no_error(pair: Pair) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    outbox = Outbox(loop, ours, never)
    part = bytearray(FLOOD)
    outbox.write([memoryview(part), b"more"])
    assert not outbox.closed
    await receive(theirs, 1000)
    theirs.close()
    while not outbox.closed:
        await asyncio.sleep(0)
    assert not loop.remove_writer(ours), "it waits for nothing any more"
    part.append(0)  # nor does it hold anything


async def test_closed_while_it_waits_it_writes_no_more(pair: Pair) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    outbox = Outbox(loop, ours, never)
    part = bytearray(FLOOD)
    outbox.write([memoryview(part)])
    outbox.close()
    assert outbox.closed
    assert not loop.remove_writer(ours)
    part.append(0)
    outbox.write([b"after the end"])
    ours.shutdown(socket.SHUT_WR)
    received = b""
    while data := await loop.sock_recv(theirs, 1 << 16):
        received += data
    assert len(received) < FLOOD
    assert not received.strip(b"\0")
    outbox.close()  # again: nothing happens


async def test_closed_while_nothing_waits_it_leaves_the_loop_alone(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(asyncio.get_running_loop(), ours, never)
    outbox.write([b"all"])
    outbox.close()
    assert theirs.recv(10) == b"all"


async def test_it_waits_for_the_socket_only_while_there_is_something_to_send(pair: Pair) -> None:
    ours, theirs = pair
    loop = asyncio.get_running_loop()
    outbox = Outbox(loop, ours, never)
    outbox.write([bytes(FLOOD)])
    await receive(theirs, FLOOD)
    while outbox._waiting:
        await asyncio.sleep(0)
    assert not loop.remove_writer(ours)


class Short(socket.socket):
    """A socket that refuses to send, at first, for reasons that have nothing to do with its peer."""

    def refuse(self, *numbers: int) -> Short:
        self.refusals = list(numbers)
        return self

    def send(self, data: Any, flags: int = 0, /) -> int:
        self._refuse()
        return super().send(data, flags)

    def sendmsg(self, *args: Any) -> int:
        self._refuse()
        return super().sendmsg(*args)

    def _refuse(self) -> None:
        if self.refusals:
            raise OSError(self.refusals.pop(0), "refused")


@pytest.mark.parametrize("number", sorted(module.SHORTAGES))
async def test_a_shortage_is_waited_for(pair: Pair, number: int) -> None:
    with Short(fileno=os.dup(pair[0].fileno())).refuse(*4 * [number]) as ours:
        outbox = Outbox(asyncio.get_running_loop(), ours, never)
        outbox.write([b"one"])
        outbox.write([WithDescriptor(b"two", os.dup(0)), bytes(FLOOD)])
        assert is_empty(pair[1])
        assert (await receive(pair[1], FLOOD + 6))[:6] == b"onetwo"
        outbox.close()


async def test_closed_in_a_shortage_it_writes_no_more(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    with Short(fileno=os.dup(pair[0].fileno())).refuse(*3 * [errno.ENOBUFS]) as ours:
        outbox = Outbox(loop, ours, never)
        outbox.write([b"one"])
        outbox.close()
        passed = loop.create_future()
        loop.call_later(2 * RETRY_AFTER, passed.set_result, None)  # later than its own timer
        await passed
        assert ours.refusals, "it did not try again"


async def test_whoever_can_be_told_nothing_more_is_reported(pair: Pair) -> None:
    reasons: list[str] = []
    with Short(fileno=os.dup(pair[0].fileno())).refuse(*2 * [errno.EBADF]) as ours:
        outbox = Outbox(asyncio.get_running_loop(), ours, reasons.append)
        outbox.write([b"one"])
        assert outbox.closed
        (reason,) = reasons
        assert reason.startswith("nothing can be sent to it: OSError(9")
