"""How a worker waits for what comes: it looks again for a moment, where that has paid."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from offloop.child import receiving
from offloop.child.receiving import BRISK, LONGEST_REST, LOOK, LOOKS, REST, SLICE, Receiver
from offloop.wire.frames import LARGE, READY, Record, frame

LIMIT = 1 << 20
#: Seconds that a look takes.
STEP = LOOK / 10


class Played:
    """A socket with one message after the other, each of which comes when it is due; and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs = True
        self.yields = 0
        self.others_take = 0.0
        self.looks = 0
        self.sleeps = 0
        self._due = 0.0

    def clock(self) -> float:
        """The time, as a worker's clock has it."""
        return self.now if self.runs else 0.0

    def give_way(self) -> None:
        """Somebody else may run."""
        self.yields += 1
        self.now += self.others_take

    def settimeout(self, _: float | None) -> None:
        """The test's messages come all the same."""

    def recvmsg(self, _size: int, _room: int, flags: int) -> tuple[bytes, list[Any], int, Any]:
        """The message, if it is there or the call may wait."""
        if flags & socket.MSG_DONTWAIT:
            self.looks += 1
            self.now += STEP
            if self.now < self._due:
                raise BlockingIOError
        else:
            self.sleeps += 1
            self.now = max(self.now, self._due)
        return frame(READY), [], 0, None

    def wait(self, receiver: Receiver, seconds: float, timeout: float | None = None) -> tuple[int, int]:
        """How often a wait of so many seconds looked, and slept."""
        self._due = self.now + seconds
        self.looks = self.sleeps = self.yields = 0
        assert receiver.receive(timeout)
        return self.looks, self.sleeps


def on(sock: Any) -> Receiver:
    """One that takes no descriptors."""
    return Receiver(sock, LIMIT, lambda _: None)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    made = Played()
    monkeypatch.setattr(receiving, "monotonic", made.clock)
    monkeypatch.setattr(os, "sched_yield", made.give_way)
    return made


@pytest.fixture
def receiver(played: Played) -> Receiver:
    """One whose last wait was short."""
    made = on(played)
    played.wait(made, 0.0)
    return made


def test_the_first_wait_sleeps_at_once(played: Played) -> None:
    receiver = on(played)
    assert played.wait(receiver, BRISK / 2) == (0, 1)


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_after_a_short_wait_it_looks_until_something_comes(
    played: Played, receiver: Receiver, timeout: float | None
) -> None:
    for _ in range(3):
        assert played.wait(receiver, 4.5 * STEP, timeout) == (5, 0)
        assert played.yields == 4


def test_it_looks_for_so_long_and_no_longer(played: Played, receiver: Receiver) -> None:
    for seconds in BRISK * 0.9, BRISK * 1.1:  # the wait before was short each time
        looks, sleeps = played.wait(receiver, seconds)
        assert LOOK / STEP <= looks <= LOOK / STEP + 1
        assert sleeps == 1
    assert played.wait(receiver, 0.0) == (0, 1)


def test_after_a_long_wait_it_sleeps_at_once(played: Played, receiver: Receiver) -> None:
    played.wait(receiver, 3600.0)
    assert played.wait(receiver, 1.5 * STEP) == (0, 1)
    assert played.wait(receiver, 1.5 * STEP) == (2, 0)  # that one was short


def test_a_clock_that_stands_keeps_nobody_awake(played: Played, receiver: Receiver) -> None:
    played.runs = False  # as a task may have it, to test what tells the time
    assert played.wait(receiver, 3600.0) == (LOOKS, 1)


def waits_without_a_look(played: Played, receiver: Receiver) -> int:
    """How many short waits pass until one looks."""
    count = 0
    while played.wait(receiver, STEP / 2) == (0, 1):
        count += 1
    return count


def lose_slice(played: Played, receiver: Receiver) -> None:
    """Somebody who computes gets the CPU during a wait that looks."""
    played.others_take = 2 * SLICE
    assert played.wait(receiver, SLICE) == (1, 1)
    played.others_take = 0.0
    played.wait(receiver, 0.0)  # a short one again


def test_who_loses_a_slice_rests_for_twice_as_many_waits_each_time(
    played: Played, receiver: Receiver
) -> None:
    rests: list[int] = []
    for _ in range(10):
        lose_slice(played, receiver)
        rests.append(waits_without_a_look(played, receiver))  # and then one that has paid
    assert rests[0] == REST
    for before, after in pairwise(rests[:7]):
        assert after == 2 * before - 1
    assert rests[-1] == LONGEST_REST - 1


def test_looks_that_pay_shorten_the_next_rest(played: Played, receiver: Receiver) -> None:
    for _ in range(5):
        lose_slice(played, receiver)
        waits_without_a_look(played, receiver)
    for _ in range(LONGEST_REST):
        assert played.wait(receiver, STEP / 2) == (1, 0)
    lose_slice(played, receiver)
    assert waits_without_a_look(played, receiver) == REST


def test_what_comes_while_others_have_the_cpu_is_no_reason_to_rest(
    played: Played, receiver: Receiver
) -> None:
    played.others_take = SLICE / 2  # the parent, say
    for _ in range(3):
        assert played.wait(receiver, LOOK * 1.5) == (1, 1)
        played.wait(receiver, 0.0)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def ids(records: list[Record] | None) -> list[int] | None:
    """The numbers in them."""
    return None if records is None else [record[3] for record in records]


@pytest.mark.parametrize("briskly", [False, True])
def test_what_comes_and_the_end_are_the_same_either_way(
    ends: tuple[socket.socket, socket.socket], briskly: bool
) -> None:
    ours, theirs = ends
    descriptors: list[bytes] = []
    receiver = Receiver(ours, LIMIT, descriptors.append)
    theirs.send(frame(READY, id=1))
    assert ids(receiver.receive(None)) == [1]
    receiver._is_brisk = briskly
    socket.send_fds(theirs, [frame(READY, id=2)], [theirs.fileno()])
    assert ids(receiver.receive(None)) == [2]
    (descriptor,) = descriptors
    os.close(int.from_bytes(descriptor, sys.byteorder))
    receiver._is_brisk = briskly
    assert receiver.receive(0.001) == []
    assert receiver.receive(0) == []
    assert ours.gettimeout() is None  # what is sent now waits for room
    theirs.close()
    receiver._is_brisk = briskly
    assert receiver.receive(None) is None


@pytest.mark.parametrize("timeout", [None, 60.0, 0])
def test_a_large_message_comes_in_parts(
    ends: tuple[socket.socket, socket.socket], timeout: float | None
) -> None:
    ours, theirs = ends
    receiver = on(ours)
    message = frame(READY, os.urandom(2 * LARGE), id=1) + frame(READY, id=2)

    def send() -> None:
        for at in range(0, len(message), 5000):
            theirs.sendall(message[at : at + 5000])

    sender = threading.Thread(target=send)
    sender.start()
    received: list[Record] = []
    while len(received) < 2:
        receiver._is_brisk = True
        received += receiver.receive(timeout) or []
    sender.join()
    assert ids(received) == [1, 2]
    assert len(received[0][6]) == 2 * LARGE


def test_a_peer_that_is_gone_with_messages_unread_is_the_end_as_well(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    receiver = on(ours)
    ours.send(b"unread")
    theirs.close()
    receiver._is_brisk = True
    assert receiver.receive(None) is None  # ConnectionResetError
