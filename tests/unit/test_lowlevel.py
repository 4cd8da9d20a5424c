"""What is below a worker's modules."""

from __future__ import annotations

import _thread
import os
import signal
import socket
import tempfile
import threading

import pytest

from offloop.child.lowlevel import RIGHTS, descriptors_in, start_without_signals, with_descriptors


def test_a_thread_that_gets_no_signals_gets_none_from_its_first_moment() -> None:
    blocked: list[set[signal.Signals]] = []
    done = threading.Event()

    def look() -> None:
        blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        done.set()

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    start_without_signals(lambda: _thread.start_new_thread(look, ()))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    done.wait()
    assert {signal.SIGSEGV, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD} <= blocked[0]


def test_signals_come_again_where_a_thread_could_not_be_started() -> None:
    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(RuntimeError):
        start_without_signals(refuse)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize("count", [0, 1, 3])
def test_descriptors_come_along_with_a_message_in_order(count: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as file:
        fds = [os.dup(each) for each in (file.fileno(), 0, file.fileno())[:count]]
        ours.sendmsg([b"data"], with_descriptors(fds))
        data, ancillary, _, _ = theirs.recvmsg(10, RIGHTS)
        came = descriptors_in(ancillary)
        assert data == b"data"
        assert [os.path.sameopenfile(*pair) for pair in zip(fds, came, strict=True)] == count * [True]
        for fd in fds + came:
            os.close(fd)
