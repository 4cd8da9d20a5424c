"""How a worker waits for what comes: it looks again for a moment, where that has paid."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from offloop.child import receiving
from offloop.child.receiving import BRISK, LOOKS, Receiver
from offloop.wire.frames import READY, frame

LIMIT = 1 << 20
#: Seconds that a look takes.
LOOK = BRISK / 2 / LOOKS


class Played:
    """A socket with one message after the other, each of which comes when it is due; and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs = True
        self.looks = 0
        self.sleeps = 0
        self._due = 0.0

    def clock(self) -> float:
        """The time, as a worker's clock has it."""
        return self.now if self.runs else 0.0

    def settimeout(self, _: float | None) -> None:
        """The test's messages come all the same."""

    def recvmsg(self, _size: int, _room: int, flags: int) -> tuple[bytes, list[Any], int, Any]:
        """The message, if it is there or the call may wait."""
        if flags & socket.MSG_DONTWAIT:
            self.looks += 1
            self.now += LOOK
            if self.now < self._due:
                raise BlockingIOError
        else:
            self.sleeps += 1
            self.now = max(self.now, self._due)
        return frame(READY), [], 0, None

    def send_in(self, seconds: float) -> None:
        """The next message comes then."""
        self._due = self.now + seconds
        self.looks = self.sleeps = 0

    def wait(self, receiver: Receiver, seconds: float) -> tuple[int, int]:
        """How often a wait of so many seconds looked, and slept."""
        self.send_in(seconds)
        assert receiver.receive(None)
        return self.looks, self.sleeps


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    made = Played()
    monkeypatch.setattr(receiving, "monotonic", made.clock)
    return made


@pytest.fixture
def receiver(played: Played) -> Receiver:
    return Receiver(played, LIMIT, lambda _: None)  # type: ignore[arg-type]


def test_the_first_wait_sleeps_at_once(played: Played, receiver: Receiver) -> None:
    assert played.wait(receiver, BRISK / 2) == (0, 1)


def test_after_a_short_wait_it_looks_until_something_comes(played: Played, receiver: Receiver) -> None:
    played.wait(receiver, BRISK / 2)
    for _ in range(3):
        assert played.wait(receiver, 4.5 * LOOK) == (5, 0)


def test_it_looks_so_often_and_no_more(played: Played, receiver: Receiver) -> None:
    played.wait(receiver, 0.0)
    assert played.wait(receiver, BRISK * 0.9) == (LOOKS, 1)
    assert played.wait(receiver, BRISK * 1.1) == (LOOKS, 1)  # as the wait before was short
    assert played.wait(receiver, 0.0) == (0, 1)


def test_after_a_long_wait_it_sleeps_at_once(played: Played, receiver: Receiver) -> None:
    played.wait(receiver, 0.0)
    played.wait(receiver, 3600.0)
    assert played.wait(receiver, 1.5 * LOOK) == (0, 1)
    assert played.wait(receiver, 1.5 * LOOK) == (2, 0)  # that one was short


def test_one_who_waits_elsewhere_looks_before_it_does(played: Played, receiver: Receiver) -> None:
    played.send_in(2.5 * LOOK)
    assert receiver.look() == []  # it is not known yet whether that pays
    played.now += 2.5 * LOOK
    assert receiver.receive(0)
    played.send_in(2.5 * LOOK)
    assert receiver.look()
    assert (played.looks, played.sleeps) == (3, 0)


def test_a_clock_that_stands_keeps_nobody_awake(played: Played, receiver: Receiver) -> None:
    played.runs = False  # as a task may have it, to test what tells the time
    played.wait(receiver, 0.0)
    assert played.wait(receiver, 3600.0) == (LOOKS, 1)


def test_others_go_first_between_two_looks(
    played: Played, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = []
    monkeypatch.setattr(os, "sched_yield", lambda: let_go.append(played.looks))
    played.wait(receiver, 0.0)
    played.wait(receiver, 2.5 * LOOK)
    assert let_go == [1, 2]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("briskly", [False, True])
def test_what_comes_and_the_end_are_the_same_either_way(
    ends: tuple[socket.socket, socket.socket], briskly: bool
) -> None:
    ours, theirs = ends
    descriptors: list[bytes] = []
    receiver = Receiver(ours, LIMIT, descriptors.append)
    theirs.send(frame(READY, id=1))
    assert [record[3] for record in receiver.receive(None) or ()] == [1]
    receiver._is_brisk = briskly
    socket.send_fds(theirs, [frame(READY, id=2)], [theirs.fileno()])
    assert [record[3] for record in receiver.receive(None) or ()] == [2]
    (descriptor,) = descriptors
    os.close(int.from_bytes(descriptor, sys.byteorder))
    receiver._is_brisk = briskly
    assert receiver.receive(0.001) == []
    assert receiver.look() == []
    assert receiver.receive(0) == []
    assert ours.gettimeout() is None  # what is sent now waits for room
    theirs.close()
    assert receiver.receive(None) is None


def test_a_peer_that_is_gone_with_messages_unread_is_the_end_as_well(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    receiver = Receiver(ours, LIMIT, lambda _: None)
    ours.send(b"unread")
    theirs.close()
    receiver._is_brisk = True
    assert receiver.receive(None) is None  # ConnectionResetError
