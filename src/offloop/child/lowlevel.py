"""The C modules behind `signal` and `socket`, typed as those.

`signal` would load enum, `socket` that and selectors: some 8 ms of every
worker's start, for nothing that a worker uses.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False

if TYPE_CHECKING:
    import signal as signals
    import socket as sockets
else:
    import _signal as signals
    import _socket as sockets

#: A flag of ``recvmsg``: received descriptors are not handed on to programs that this process
#: starts.  0 where the system has no such flag.
MSG_CMSG_CLOEXEC: int = getattr(sockets, "MSG_CMSG_CLOEXEC", 0)
#: Room for the descriptors that come along with one receive.
RIGHTS = sockets.CMSG_LEN(4 * 16)

__all__ = ["MSG_CMSG_CLOEXEC", "RIGHTS", "descriptor_of", "signals", "sockets"]


def descriptor_of(pid: int) -> int:
    """A pidfd of a process; -1 if it is gone, or where there are none, as before Linux 5.3."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
