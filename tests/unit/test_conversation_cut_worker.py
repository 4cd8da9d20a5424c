"""What a parent says, cut at each byte, and with garbage in it: whole tasks run once, and the worker ends."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from contextvars import copy_context
from typing import Any

import pytest
from recording import OUTCOMES, Recording, borders, complete, record
from support.bounds import LoopRunner

from offloop import LocalEnvironment
from offloop.child.control import Control
from offloop.child.port import SocketPort
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.contexts.starters import LIMIT
from offloop.shm.ledger import Ledger, create_file
from offloop.wire.frames import (
    CANCEL,
    HEADER_SIZE,
    RETURNED,
    STACK,
    TASKS,
    ProtocolError,
    frame,
    pack_numbers,
)


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Recorded once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorded: Recording = LoopRunner(None)(record(monkeypatch))
    return recorded


class Outlet:
    """What is said beside the outcomes: nobody hears it."""

    def __init__(self) -> None:
        self.line: deque[bytes] = deque()
        self.said: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.said.append(data)


def be_worker(told: bytes) -> tuple[list[int], str]:
    """Be a worker that is told this, after which its parent is silent for ever.

    Returns:
        The ids of the tasks of which it told an outcome, and how it ended.
    """
    parent, sock = socket.socketpair()
    page = create_file()
    ledger = Ledger(page, 2)
    os.close(page)
    outlet: Any = Outlet()
    port = SocketPort(sock, ledger, LIMIT, outlet)
    port._exchange.lends = False  # what is large goes by the socket
    with parent, sock:
        parent.sendall(told)
        parent.shutdown(socket.SHUT_WR)
        reader = threading.Thread(target=_read, args=(parent, said := bytearray()))
        reader.start()
        how = copy_context().run(_serve, port)
        sock.shutdown(socket.SHUT_RDWR)
        reader.join()
    ended = [record[3] for record in complete(bytes(said) + ledger.unsent()) if record[0] in OUTCOMES]
    ledger.close()
    return ended, how


def _read(sock: socket.socket, into: bytearray) -> None:
    while data := sock.recv(1 << 16):
        into += data


def _serve(port: SocketPort) -> str:
    try:
        if port.receive_setup() is None:
            return "orphaned"
        environment = LocalEnvironment()
        runner = Runner(port, 1, environment, Turns())
        stopped = runner.serve()
        environment.close()
        port.flush()
    except ProtocolError:
        return "garbage"
    return "stopped" if stopped else "orphaned"


def test_cut_at_each_byte_the_tasks_that_came_in_full_run_once(
    recording: Recording,
) -> None:
    told = recording.told
    setup = borders(told)[1]
    whole = complete(told)
    assert sum(record[0] in TASKS for record in whole) == len(recording.outcomes)
    for cut in [*range(0, setup, 101), *range(setup, len(told) + 1)]:
        ended, how = be_worker(told[:cut])
        came = [record[3] for record in complete(told[:cut]) if record[0] in TASKS]
        assert sorted(ended) == sorted(came), f"cut at {cut}"
        assert how == "orphaned", "one of the tasks waits for ever"


@pytest.mark.parametrize("garbage", [b"\xff" * HEADER_SIZE, frame(200, b"")[:8] + b"\xff" * HEADER_SIZE])
def test_garbage_between_two_frames_ends_the_worker_and_no_task_runs_twice(
    garbage: bytes, recording: Recording
) -> None:
    told = recording.told
    for at in borders(told)[1:-1]:
        ended, how = be_worker(told[:at] + garbage + told[at:])
        assert how == "garbage"
        came = {record[3] for record in complete(told[:at]) if record[0] in TASKS}
        assert set(ended) <= came
        assert len(set(ended)) == len(ended)


class Watched(Control):
    """Serves a control socket to its end."""

    ends = 0

    def _ended(self) -> None:
        self.ends += 1

    def _interrupt(self, place: int) -> None:
        """Nobody is to be interrupted here."""


def be_control(told: bytes) -> tuple[int, list[bytes]]:
    """Be a worker's other thread; returns how often it noticed the parent's end, and what it said."""
    parent, sock = socket.socketpair()
    outlet: Any = Outlet()
    control = Watched(sock, outlet, Turns(), LIMIT, lambda: None)
    with parent, sock:
        parent.sendall(told)
        parent.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=control._serve)
        thread.start()
        thread.join()
    return control.ends, outlet.said


#: What may come where a frame should begin: nothing, noise, frames with nonsense in them.
NOTHING = b""
GARBAGE = [b"\xff" * HEADER_SIZE, frame(CANCEL, b"1234567"), frame(CANCEL, b"12345678"), frame(STACK)[:3]]


@pytest.mark.parametrize("garbage", [NOTHING, *GARBAGE], ids=["", "noise", "cut short", "odd", "a part"])
def test_whatever_comes_on_the_control_socket_the_parents_end_is_noticed(garbage: bytes) -> None:
    asked = [frame(CANCEL, pack_numbers([place, 100 + place])) for place in (1, 2)]
    told, size = b"".join(asked), len(asked[0])
    answers = [frame(RETURNED, pack_numbers([100 + place])) for place in (1, 2)]
    for cut in range(0, len(told) + 1, size if garbage else 1):
        ends, said = be_control(told[:cut] + garbage)
        assert ends == 1
        assert said == answers[: len(said)]
        assert garbage or len(said) == cut // size
