"""Memory of a ``memfd`` in this process: mapped, exported to objects, and what a fork does to it."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol, TypeAlias
from weakref import WeakSet

from offloop.shm import FRESH

#: Unmaps memory: at once, or soon.
Unmap: TypeAlias = Callable[[mmap.mmap], object]
#: The same on Linux and macOS; `mmap` does not name it.
_MAP_FIXED = 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
)
# Functions of our own: those that are attributes of `pythonapi` are everybody's.
_new_bytes: Any = ctypes.pythonapi["PyBytes_FromStringAndSize"]
_new_bytearray: Any = ctypes.pythonapi["PyByteArray_FromStringAndSize"]
for _new in (_new_bytes, _new_bytearray):
    _new.restype, _new.argtypes = ctypes.py_object, (ctypes.c_char_p, ctypes.c_ssize_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _most_maps() -> int:
    """Half the mappings that the system lets a process have; without the other half nothing would run."""
    try:
        with open("/proc/sys/vm/max_map_count") as file:
            return int(file.read()) // 2
    except (OSError, ValueError):
        return 1 << 15


#: How many segments may be mapped in this process.
MOST_MAPS = _most_maps()
_maps: WeakSet[mmap.mmap] = WeakSet()


def has_room() -> bool:
    """Whether another segment may be mapped."""
    return len(_maps) < MOST_MAPS


def mapped(fd: int, size: int) -> mmap.mmap:
    """A mapping that keeps no descriptor; `mmap.mmap` keeps a duplicate unless told otherwise."""
    memory = _mapped(fd, size)
    _maps.add(memory)
    return memory


def _mapped(fd: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, trackfd=False)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # What was reserved there is replaced, and unmapped in its place.
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    if _libc.mmap(address, size, protection, mmap.MAP_SHARED | _MAP_FIXED, fd, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return memory


def check_sealed(fd: int, size: int) -> None:
    """Refuse memory that its owner could cut off: to touch what is gone would kill this process (SIGBUS).

    Raises:
        OSError: it is not sealed, no such memory at all, or smaller than it was said to be.
    """
    import fcntl

    if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK or os.fstat(fd).st_size < size:
        raise OSError("it is not sealed against shrinking")


def unmap_now(memory: mmap.mmap) -> None:
    """Unmap memory: now, or when the last object that lies on it dies."""
    try:
        memory.close()
    except BufferError:
        pass  # something lies on it


class Side(Protocol):
    """One side of the lending, whose mappings a forked process shares."""

    def before_fork(self) -> None:
        """What objects of this side lie on will be the forked process's too."""


#: All sides in this process; each adds itself.
sides: WeakSet[Side] = WeakSet()


def _before_fork() -> None:
    for side in list(sides):
        side.before_fork()


os.register_at_fork(before=_before_fork)


def exported(memory: mmap.mmap, offset: int, size: int) -> Any:
    """An array on part of a mapping: whatever is made from it keeps it alive, and it the mapping."""
    return (ctypes.c_char * size).from_buffer(memory, offset)


class Untouched:
    """Memory for a large `bytes` or `bytearray`, to be written through ``view`` before it is taken.

    It comes without the zeros that ``kind(size)`` would write.  From `FRESH` on its pages are large ones,
    if the system has them for who asks: 100 MB are written in 12 ms, and in 50 with pages of 4 KiB.
    NumPy asks for its arrays as well.
    """

    def __init__(self, kind: type[bytes | bytearray], size: int) -> None:
        self._array: bytearray | None = _new_bytearray(None, size) if kind is bytearray else None
        self._file = BytesIO(_new_bytes(None, size)) if kind is bytes else BytesIO()
        self.view = self._file.getbuffer() if self._array is None else memoryview(self._array)
        if size >= FRESH and hasattr(mmap, "MADV_HUGEPAGE"):
            start = ctypes.addressof(ctypes.c_char.from_buffer(self.view))
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            _libc.madvise(first, start + size - first, mmap.MADV_HUGEPAGE)  # if it is refused, so be it

    def take(self) -> bytes | bytearray:
        """The object, without a copy; from now on nobody writes through the view."""
        self.view.release()
        return self._file.getvalue() if self._array is None else self._array


def copied(kind: type[bytes | bytearray], source: memoryview) -> bytes | bytearray:
    """The bytes of a large buffer, as memory of their own."""
    made = Untouched(kind, len(source))
    made.view[:] = source
    return made.take()
