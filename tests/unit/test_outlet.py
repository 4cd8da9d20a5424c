"""The outlet of a worker: whole frames, in order, from any thread, without waiting."""

from __future__ import annotations

import _thread
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from offloop import TaskCancelled
from offloop.child import outlet as module
from offloop.child.outlet import Outlet
from offloop.child.turns import Turns
from offloop.shm.ledger import CONTROL
from offloop.wire.frames import REPORT, FrameDecoder, Record, frame

Ends = tuple[socket.socket, Outlet, list[int]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The parent's socket, the outlet, and the ledger's words."""
    ours, theirs = socket.socketpair()
    words: Any = [0] * (CONTROL + 1)
    outlet = Outlet(theirs, Turns(), words, lambda: None)  # type: ignore[arg-type]
    theirs.close()
    yield ours, outlet, words
    ours.close()
    outlet.close()


def numbered(number: int, size: int = 0) -> bytes:
    return frame(REPORT, bytes(size), id=number)


def receive(sock: socket.socket, count: int) -> list[Record]:
    """That many frames."""
    decoder, records = FrameDecoder(1 << 30), list[Record]()
    while len(records) < count:
        records += decoder.feed(sock.recv(1 << 16))
    assert not decoder.mid_frame
    return records


def ids(records: list[Record]) -> list[int]:
    return [record[3] for record in records]


def test_what_the_socket_takes_goes_at_once_and_is_counted(ends: Ends) -> None:
    ours, outlet, words = ends
    outlet.send(numbered(1))
    outlet.send(numbered(2, 10))
    assert not outlet.pending
    assert words[CONTROL] == len(numbered(1)) + len(numbered(2, 10))
    assert ids(receive(ours, 2)) == [1, 2]


def test_a_full_socket_holds_nobody_up_and_the_rest_follows_in_order(ends: Ends) -> None:
    ours, outlet, words = ends
    size = 50_000
    for number in range(100):  # far more than a socket takes
        outlet.send(numbered(number, size))
    assert outlet.pending
    assert 0 < words[CONTROL] < 100 * size
    assert ids(receive(ours, 100)) == list(range(100))
    assert outlet.flush()
    assert words[CONTROL] == 100 * len(numbered(0, size))


def test_flush_waits_until_all_is_out(ends: Ends) -> None:
    ours, outlet, _ = ends
    got: list[Record] = []
    for number in range(100):
        outlet.send(numbered(number, 50_000))
    reader = threading.Thread(target=lambda: got.extend(receive(ours, 100)))
    reader.start()
    assert outlet.flush()
    assert not outlet.pending
    reader.join()
    assert ids(got) == list(range(100))


def test_frames_of_many_threads_stay_whole(ends: Ends) -> None:
    ours, outlet, _ = ends

    def send(thread: int) -> None:
        for number in range(300):
            outlet.send(numbered(1000 * thread + number, 700 * (number % 3)))

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    got = ids(receive(ours, 1200))
    for thread in threads:
        thread.join()
    for first in range(4):
        assert [id for id in got if id // 1000 == first] == [1000 * first + n for n in range(300)]


def test_who_says_more_than_may_wait_waits_too(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, outlet, _ = ends
    monkeypatch.setattr(module, "MOST", 1_000_000)
    all_sent = threading.Event()

    def send() -> None:
        for number in range(100):
            outlet.send(numbered(number, 50_000))
        all_sent.set()

    sender = threading.Thread(target=send)
    sender.start()
    assert not all_sent.wait(0.05)
    assert ids(receive(ours, 100)) == list(range(100))
    sender.join()


def test_a_call_in_the_middle_of_another_one_waits_for_nobody(ends: Ends) -> None:
    ours, outlet, _ = ends
    real = outlet._sock

    class Interrupted:
        """A socket in whose ``send`` a finaliser runs that has something to say too."""

        done = False

        def send(self, data: Any, flags: int) -> int:
            if not self.done:
                self.done = True
                outlet.send(numbered(2))
                assert not outlet.flush()
            return real.send(data[:10], flags)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    outlet._sock = Interrupted()  # type: ignore[assignment]
    outlet.send(numbered(1))
    assert ids(receive(ours, 2)) == [1, 2]


def test_a_parent_that_is_gone_is_no_error(ends: Ends) -> None:
    ours, outlet, _ = ends
    for number in range(100):
        outlet.send(numbered(number, 50_000))
    ours.close()
    assert outlet.flush()
    outlet.send(numbered(101))
    assert outlet.closed
    assert not outlet.pending


def test_a_socket_that_fails_is_told_once_and_one_closed_by_a_fork_never(ends: Ends) -> None:
    _, outlet, words = ends
    told: list[str] = []
    forked = Outlet(outlet._sock, Turns(), words, lambda: told.append("forked"))  # type: ignore[arg-type]
    forked.close()
    failing = Outlet(outlet._sock, Turns(), words, lambda: told.append("failing"))  # type: ignore[arg-type]
    failing._sock.close()  # as a task does that closes a descriptor which is not its own
    for each in (forked, failing, failing):
        each.send(numbered(1))
    assert told == ["failing"]
    assert not failing.pending


def test_an_outlet_closed_by_a_fork_says_nothing(ends: Ends) -> None:
    _, outlet, words = ends
    outlet.close()
    outlet.send(numbered(1))
    assert words[CONTROL] == 0


def test_a_cancellation_comes_between_frames_and_never_within_one(ends: Ends) -> None:
    ours, outlet, _ = ends
    turns = outlet._turns
    turns.thread = _thread.get_ident()
    turns.begin()
    turns.interruptible = turns.place
    real = outlet._sock

    class Cancelled:
        """A socket in whose ``send`` the task is cancelled, and the signal arrives."""

        def send(self, data: Any, flags: int) -> int:
            turns.request_cancel(turns.place)
            turns.interrupt()
            return real.send(data, flags)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    outlet._sock = Cancelled()  # type: ignore[assignment]
    with pytest.raises(TaskCancelled):
        outlet.send(numbered(1))
    assert ids(receive(ours, 1)) == [1]
    assert turns.interruptible == 0
