"""What a worker process and its parent share: two pairs of sockets and the ledger."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import NamedTuple

from offloop.contexts.forks import close_in_forks
from offloop.shm.ledger import Ledger, create_file


class Ends(NamedTuple):
    """All of it, open.

    Attributes:
        data: the parent's end, not blocking.
        control: the parent's end.
        ledger: the parent's view.
        worker: holds what the worker gets, and closes it here.
        fds: that: its ends of data and control, and the ledger's file.
    """

    data: socket.socket
    control: socket.socket
    ledger: Ledger
    worker: ExitStack
    fds: tuple[int, int, int]


def open_ends(slots: int) -> Ends:
    """Open what a worker with so many slots needs.

    Raises:
        OSError: there are no descriptors, or there is no memory; then nothing is open.
    """
    with ExitStack() as opened, ExitStack() as worker:
        data, their_data = map(opened.enter_context, socket.socketpair())
        control, their_control = map(opened.enter_context, socket.socketpair())
        worker.callback(os.close, fd := create_file())
        ledger = Ledger(fd, slots)
        data.setblocking(False)
        close_in_forks(data, control)
        worker.callback(their_data.close)
        worker.callback(their_control.close)
        opened.pop_all()
        fds = their_data.fileno(), their_control.fileno(), fd
        return Ends(data, control, ledger, worker.pop_all(), fds)


def duplicates(fds: tuple[int, int, int]) -> tuple[int, int, int]:
    """Duplicates of these.

    Raises:
        OSError: there are no descriptors; then none is open.
    """
    with ExitStack() as opened:
        made: list[int] = []
        for fd in fds:
            made.append(os.dup(fd))
            opened.callback(os.close, made[-1])
        opened.pop_all()
    return made[0], made[1], made[2]
