"""What a worker process says on its control socket: from any thread, at any time, without waiting."""

from __future__ import annotations

import _thread
import os
import select
from collections import deque

from offloop.child.lowlevel import MSG_NOSIGNAL, sockets, start_without_signals
from offloop.shm.ledger import CONTROL

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable

    from offloop.child.turns import Turns

#: Bytes that may wait for the parent to read; who says more than that waits as well.
MOST = 1 << 26
_FLAGS: int = sockets.MSG_DONTWAIT | MSG_NOSIGNAL


class Outlet:
    """The one way out on the control socket.

    A frame is put in line first.  Then whoever finds nobody else writing writes
    the line out, and whoever does find somebody leaves it to them: so no call
    waits for another, not even one that came in the middle of another one in the
    same thread (from a finaliser, or a signal handler).

    Args:
        sock: the control socket.  Its descriptor is duplicated, so that the
            timeouts of the thread that reads there are not felt here.
        turns: keeps the cancellation of a task from cutting a frame in two.
        words: the ledger's words, where the bytes written are counted.
        lost: called when the socket fails.  The parent is gone, or a task closed
            the descriptor: a worker that can't speak must not go on as if it could.
        start_thread: called with a function and its arguments.
    """

    def __init__(
        self,
        sock: sockets.socket,
        turns: Turns,
        words: memoryview[int],
        lost: Callable[[], object],
        start_thread: Callable[[Callable[..., object], tuple[()]], object] = _thread.start_new_thread,
    ) -> None:
        self._lost = lost
        self._start_thread = start_thread
        self._sock = sockets.socket(fileno=os.dup(sock.fileno()))
        self._turns = turns
        self._words = words
        #: What waits to be written; always the same object.
        self.line: deque[bytes | memoryview] = deque()
        self._bytes = 0  # in the line; set right whenever it is empty
        self._sent = 0
        self._lock = _thread.allocate_lock()  # held by the one who writes
        self._writer = 0  # that thread
        self.closed = False

    @property
    def pending(self) -> bool:
        """Whether something waits to be written."""
        return bool(self.line) and not self.closed

    def send(self, frame: bytes) -> None:
        """Send a frame; what the socket does not take now is written later by a thread.

        It does not wait, unless `MOST` bytes wait already.  Nothing is raised if
        the socket fails.
        """
        if self.closed:
            return
        place = self._turns.shield()
        try:
            self.line.append(frame)
            self._bytes += len(frame)
            self._write_out()
            if self._bytes > MOST:
                self.flush()
        finally:
            self._turns.unshield(place)

    def flush(self, timeout: float = -1) -> bool:
        """Wait until what waits now is written; what others say meanwhile is written later by a thread.

        Args:
            timeout: seconds to wait for another thread that writes; -1 for ever.

        Returns:
            Whether it is out; False as well in the middle of another call in this thread.
        """
        is_out = self._write_front(timeout)
        if is_out and self.pending:
            self._write_later()
        return is_out

    def _write_front(self, timeout: float = -1) -> bool:
        """Write what waits now; see `flush`."""
        if not self.pending:
            return True
        if self._writer == _thread.get_ident() or not self._lock.acquire(timeout=timeout):
            return False
        try:
            self._writer = _thread.get_ident()
            left = len(self.line)
            while left > 0 and not self.closed:
                left = self._drain(left)
                if left > 0 and not self.closed:
                    self._wait_writable()
        finally:
            self._writer = 0
            self._lock.release()
        return True

    def close(self) -> None:
        """Say no more; for a process that a task forked."""
        self.closed = True
        self._sock.close()

    def _write_out(self) -> None:
        # Again after the lock was given back: somebody may have come and gone meanwhile.
        while self.line and self._lock.acquire(False):
            try:
                self._writer = _thread.get_ident()
                is_done = not self._drain()
            finally:
                self._writer = 0
                self._lock.release()
            if not is_done:
                self._write_later()
                return

    def _write_later(self) -> None:
        try:
            start_without_signals(lambda: self._start_thread(self._write_on, ()))
        except RuntimeError:  # no more threads to be had
            self.flush()

    def _write_on(self) -> None:
        while self.pending and self._write_front():
            pass

    def _drain(self, most: int = 1 << 62) -> int:
        """Write up to ``most`` frames; returns how many of them the socket did not take."""
        line = self.line
        while line and most and not self.closed:
            head = line[0]
            try:
                count = self._sock.send(head, _FLAGS)
            except (BlockingIOError, TimeoutError):
                return most
            except OSError:
                self.closed = True
                self._lost()
                break
            self._sent += count
            self._words[CONTROL] = self._sent
            if count == len(head):
                line.popleft()
                most -= 1
            else:
                line[0] = memoryview(head)[count:]
        if self.closed:
            line.clear()
        if not line:
            self._bytes = 0
        return 0

    def _wait_writable(self) -> None:
        descriptor = self._sock.fileno()
        if descriptor >= 0:  # else it was closed meanwhile
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
