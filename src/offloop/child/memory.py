"""A worker's own look at its memory, where its pool limits that (``max_memory_per_worker``)."""

from __future__ import annotations

import gc
import os
import sys
from time import monotonic, sleep

from offloop.wire.frames import RETIRE, pack_numbers

TYPE_CHECKING = False

if TYPE_CHECKING:
    from offloop.child.protocols import Port

#: A collection that did free enough is not repeated before this many times its duration has passed:
#: a worker that stays close to its limit spends its time on tasks.
REST = 10.0


class MemoryGuard:
    """Asks the parent for a replacement, once, when this process keeps more memory than it may.

    Args:
        limit: bytes of resident memory, shared memory not counted.
        port: the conversation with the parent.
    """

    def __init__(self, limit: int, port: Port) -> None:
        self._limit = limit
        self._port = port
        self._fresh = own_memory(limit)
        self._asked = False
        self._not_before = 0.0

    def check(self) -> None:
        """Look, and collect garbage before anything is said; a look costs some microseconds.

        To be called between tasks, and only when at least one has run: a pool
        whose limit is below what a fresh worker needs must get somewhere too.
        """
        if self._asked or own_memory(self._limit) <= self._limit or monotonic() < self._not_before:
            return
        start = monotonic()
        gc.collect()
        _ask_for_more()
        kept, end = own_memory(self._limit), monotonic()
        self._not_before = end + REST * (end - start)
        if kept > self._limit:
            self._asked = True
            self._port.say(RETIRE, pack_numbers([kept, self._fresh]))


def _ask_for_more() -> None:
    """Without the GIL large blocks that were freed are kept until more memory is asked for."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        for _ in range(3):  # the first may only learn that no thread can still look at them
            sleep(0)
            bytes(1 << 20)


def own_memory(enough: int) -> int:
    """This process's resident memory in bytes, without what it shares.

    Shared memory is left out because the segments that hold large arguments
    stay mapped for the next ones, and belong to the parent.

    Args:
        enough: an amount that is not looked into more closely; up to it, shared
            memory may be counted.

    Where only the highest amount so far can be read (without ``/proc``), that is given.
    """
    statm = _read("/proc/self/statm")
    if not statm:
        return _peak()
    size = int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if size <= enough:
        return size
    _, name, rest = _read("/proc/self/status").partition(b"RssShmem:")
    return size - int(rest.split()[0]) * 1024 if name else size


def _read(path: str) -> bytes:
    try:
        # Opened each time: a task may close, or take, any descriptor that is kept.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 8192)
    finally:
        os.close(fd)


def _peak() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
