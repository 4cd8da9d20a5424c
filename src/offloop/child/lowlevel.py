"""The C modules behind `signal` and `socket`, typed as those.

`signal` would load enum, `socket` that and selectors: some 8 ms of every
worker's start, for nothing that a worker uses.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    import signal as signals
    import socket as sockets
else:
    import _signal as signals
    import _socket as sockets

__all__ = ["signals", "sockets"]
