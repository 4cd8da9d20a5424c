"""Large memory on its way back to the system: a thread of its own unmaps it, not the event loop.

The system takes back each page by itself: 100 MB take 20 to 30 ms, whether in
one piece or in a hundred, for which a worker's end, or an idle minute's tidying
up, would hold everything else.  The thread lives for as long as there is
something to unmap.
"""

from __future__ import annotations

import _thread
import asyncio
import mmap
import os
from collections import deque
from time import monotonic

#: Fewer bytes than this are unmapped at once, which takes less than 1 ms: of one mapping …
LARGE = 1 << 22
#: … and of all that are unmapped within so many seconds.
SPELL = 0.01

_lock = _thread.allocate_lock()
_queue: deque[mmap.mmap] = deque()
_waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
_is_running = False
_spell_began = 0.0
_at_once = 0  # bytes in this spell


def unmap_aside(memory: mmap.mmap) -> None:
    """Unmap memory, soon; what objects lie on, when the last of them dies."""
    global _is_running, _spell_began, _at_once
    from offloop.shm.mapping import unmap_now  # loads ctypes, which programs without large data do without

    now = monotonic()
    if now - _spell_began > SPELL:
        _spell_began, _at_once = now, 0
    if _at_once + len(memory) < LARGE:
        _at_once += len(memory)
        unmap_now(memory)
        return
    with _lock:
        _queue.append(memory)
        begins, _is_running = not _is_running, True
    if begins:
        try:
            _thread.start_new_thread(_unmap_all, ())
        except RuntimeError:  # no more threads, or the interpreter is ending
            _unmap_all()


def _unmap_all() -> None:
    global _is_running
    from offloop.shm.mapping import unmap_now

    while True:
        with _lock:
            if not _queue:
                _is_running = False
                waiting = _waiting[:]
                _waiting.clear()
                break
            memory = _queue.popleft()
        unmap_now(memory)
        del memory  # where it is still in use, whoever uses it is to have it alone
    for loop, done in waiting:
        try:
            loop.call_soon_threadsafe(_tell, done)
        except RuntimeError:
            pass  # the loop was closed


def _tell(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


async def wait_unmapped() -> None:
    """Wait until nothing is left that is to be unmapped."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    with _lock:
        if not _is_running:
            return
        _waiting.append((loop, done))
    await done


def _forget() -> None:
    """A forked process has no such thread; what it was to unmap ends with the references to it."""
    global _lock, _is_running
    _lock = _thread.allocate_lock()
    _queue.clear()
    _waiting.clear()
    _is_running = False


os.register_at_fork(after_in_child=_forget)
