"""What is below a worker's modules."""

from __future__ import annotations

import _thread
import signal
import threading

import pytest

from offloop.child.lowlevel import start_without_signals


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
