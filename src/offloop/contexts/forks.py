"""What a process that the parent forks must not hold: the parent's ends of its workers' sockets."""

from __future__ import annotations

import os
import socket
from weakref import WeakSet

_sockets: WeakSet[socket.socket] = WeakSet()


def close_in_forks(*sockets: socket.socket) -> None:
    """Close these in every process forked from this one.

    A forked child that held them would keep workers alive after the parent's
    death, and could speak on them.
    """
    _sockets.update(sockets)


def _close_all() -> None:
    for sock in list(_sockets):
        sock.close()


os.register_at_fork(after_in_child=_close_all)
