"""The C modules behind `signal` and `socket`, typed as those; and `typing.cast`, without its module.

`signal` would load enum, `socket` that and selectors: some 8 ms of every
worker's start, for nothing that a worker uses.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    import signal as signals
    import socket as sockets
    from collections.abc import Callable, Iterable
    from typing import cast
else:
    import _signal as signals
    import _socket as sockets

    def cast(_: object, value: object) -> object:
        """`typing.cast` without its module."""
        return value


#: A flag of ``recvmsg``: received descriptors are not handed on to programs that this process
#: starts.  0 where the system has no such flag.
MSG_CMSG_CLOEXEC: int = getattr(sockets, "MSG_CMSG_CLOEXEC", 0)
#: A flag of ``send``: a peer that is gone shows as an error, also where the program has SIGPIPE end it.
#: 0 where the system has no such flag.
MSG_NOSIGNAL: int = getattr(sockets, "MSG_NOSIGNAL", 0)
#: Room for the descriptors that come along with one receive.
RIGHTS = sockets.CMSG_LEN(4 * 16)
_INT = 4  # bytes that a descriptor takes there

__all__ = [
    "MSG_CMSG_CLOEXEC",
    "MSG_NOSIGNAL",
    "RIGHTS",
    "cast",
    "descriptor_of",
    "descriptors_in",
    "signals",
    "sockets",
    "start_without_signals",
    "with_descriptors",
]


def descriptor_of(pid: int) -> int:
    """A pidfd of a process; -1 if it is gone, or where there are none, as before Linux 5.3."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def with_descriptors(fds: Iterable[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data of a message that takes these descriptors along."""
    rights = b"".join(fd.to_bytes(_INT, sys.byteorder) for fd in fds)
    return [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, rights)] if rights else []


def descriptors_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came along with a message, in order."""
    return [
        int.from_bytes(rights[at : at + _INT], sys.byteorder)
        for _, _, rights in ancillary
        for at in range(0, len(rights) - _INT + 1, _INT)
    ]


def start_without_signals(start: Callable[[], object]) -> None:
    """Call ``start``, and have the thread that it starts get no signals: they are for the main thread.

    One that blocks in a system call is woken only if the kernel hands the signal to that very thread.
    And a thread that blocked them by itself could take one in its first moment, a fatal one, too: then
    the task that sent it to its own process goes on, and may end well, before the process dies.
    """
    before = signals.pthread_sigmask(signals.SIG_BLOCK, ())
    try:
        signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
        start()
    finally:  # also where a handler of the user's raises, which Python may call in any of these
        signals.pthread_sigmask(signals.SIG_SETMASK, before)
