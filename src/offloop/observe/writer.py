"""Writes a file in a thread of its own, so that a slow disk holds up nobody."""

from __future__ import annotations

import atexit
import os
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from io import RawIOBase
from queue import SimpleQueue
from threading import Thread

#: Batches that may wait for the disk; what comes on top is refused.
MOST = 64
#: Seconds that the interpreter's exit waits for what is not written yet.
GRACE = 5.0


class BatchWriter:
    """Writes batches of text, in order.

    Args:
        file: open for writing, without a buffer; the thread closes it at the end.
        loop: whose callbacks ``failed`` and the end of `ended` are.
        failed: called once if something can't be written; nothing more is written then.
        last: makes the last batch, if the interpreter exits before `close`.
    """

    def __init__(
        self,
        file: RawIOBase,
        loop: AbstractEventLoop,
        failed: Callable[[OSError], None],
        last: Callable[[], None],
    ) -> None:
        self._file = file
        self._loop = loop
        self._failed = failed
        self._last = last
        self._batches: SimpleQueue[str | None] = SimpleQueue()
        self._is_closed = False
        self._pid = os.getpid()
        #: Done when everything is written and the file is closed.
        self.ended: Future[None] = loop.create_future()
        # A daemon: a disk that hangs must not hang the interpreter's exit, which waits for GRACE.
        self._thread = Thread(target=self._run, name="offloop-trace", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def write(self, batch: str) -> bool:
        """Have a batch written; False if so much waits that it was dropped."""
        if self._batches.qsize() >= MOST:
            return False
        self._batches.put(batch)
        return True

    def close(self) -> None:
        """Write what is waiting, and close the file; `ended` says when that is done."""
        if not self._is_closed:
            self._is_closed = True
            self._batches.put(None)

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:  # not in a child that was forked
            self._last()
            self.close()
            self._thread.join(GRACE)

    def _run(self) -> None:
        try:
            with self._file:
                while (batch := self._batches.get()) is not None:
                    left = memoryview(batch.encode())
                    while left:
                        left = left[self._file.write(left) :]
        except OSError as error:
            self._tell(self._failed, error)
        self._tell(self._set_ended)

    def _set_ended(self) -> None:
        atexit.unregister(self._at_exit)  # not before: a loop may end with its program, and much be unwritten
        if not self.ended.done():
            self.ended.set_result(None)

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            pass  # the loop was closed: nobody waits
