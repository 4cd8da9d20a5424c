"""Whose turn it is: the agreement between a worker's two threads about each task.

The main thread runs tasks in the order in which they were sent; the control
thread takes back tasks that have not started, and interrupts the running one.
A task is named by its place in that order, so both threads, and the parent,
know without a look whether it lies ahead or behind.

Why no task is lost or run twice: `begin` and `take_back` run under one lock.
If `begin` comes first, the place is no longer ahead and `take_back` leaves it
alone; if `take_back` comes first, the place is marked and `begin` passes it
over.  So each task is either run here or given back, and never both.

Why a cancellation hits only the task it names: the signal handler runs in the
main thread, between two of its instructions, and raises only if the place it
was sent for is still marked as interruptible.  The runner sets the mark right
before it calls the user's code and takes it away right after; the handler
takes it away as well when it raises, so it raises once.  What must not be cut
short (a frame half written) runs between `shield` and `unshield`; who waits
there is woken by `request_cancel`.

A signal that finds the task at a jump is put off by one instruction (`offloop.child.jumps`),
and `settle` takes it back if the instruction did not come.

Where there are no signals (threads, interpreters), the other thread has the
exception raised in the runner's.  It looks at the mark and does so under the
lock; the runner takes the mark away first, waits until nobody has the lock, and
withdraws what may be on its way.  So nothing is on its way when the next task begins, nor
between `shield` and `unshield`.  The exception, as it is raised, takes the mark
away as well.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterable
from time import sleep

from offloop.errors import TaskCancelled

TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import FrameType

    from offloop.child.jumps import Jumps
    from offloop.child.live import LiveTask


class Turns:
    """The state that a worker's two threads share."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._taken_back: set[int] = set()
        self._is_closed = False
        #: The place that runs now, or ran last.
        self.place = 0
        #: Async tasks under way, by place: how to cancel each from another thread.
        self.awaiting: dict[int, Callable[[], object]] = {}
        #: Places whose cancellation was requested while they ran.
        self.cancelled: set[int] = set()
        #: Where there are no signals: how to raise in the runner's thread, and how to take that back.
        self.interrupt_from_outside: Callable[[], object] | None = None
        self.withdraw: Callable[[], object] | None = None
        #: What puts off an interruption at a jump; set by whoever interrupts.
        self.jumps: Jumps | None = None
        #: The place that the signal handler may interrupt now, or 0.
        self.interruptible = 0
        #: The runner's thread.
        self.thread = 0
        #: Whether a synchronous task may wait for its parent, which an inline one would do for ever.
        self.may_wait = True
        #: Gives the stack of a task, by id, as text.
        self.stack_of: Callable[[int], str] = lambda id: ""
        #: Tasks that report, stream or have a channel, by id.
        self.lives: dict[int, LiveTask] = {}

    def begin(self) -> bool:
        """Main thread: go on to the next place.  False if it was taken back."""
        lock = self._lock
        lock.acquire()
        self.place = place = self.place + 1
        mine = not self._is_closed and (not self._taken_back or place not in self._taken_back)
        if self.cancelled:  # requests that came too late
            self.cancelled.intersection_update(self.awaiting)
        lock.release()
        if not mine:
            self._taken_back.discard(place)
        return mine

    def take_back(self, places: Iterable[tuple[int, int]]) -> list[int]:
        """Other thread: of these ``(place, id)``, keep what lies ahead from running; returns the ids."""
        taken: list[int] = []
        with self._lock:
            for place, id in places:
                if place > self.place and place not in self._taken_back:
                    self._taken_back.add(place)
                    taken.append(id)
        return taken

    def close(self) -> int:
        """Other thread: keep all that lies ahead from running; returns the last place begun, or 0."""
        with self._lock:
            self._is_closed = True
            return self.place

    def request_cancel(self, place: int) -> bool:
        """Other thread: mark a started task as cancelled.

        Returns:
            Whether the runner's thread is to be interrupted for it: it is the
            synchronous task that runs now.
        """
        with self._lock:
            if place != self.place and place not in self.awaiting:
                return False
            self.cancelled.add(place)
            # Only now: the runner notes a task in `awaiting` first and then looks
            # into `cancelled`, so that one of the two threads sees the other.
            cancel = self.awaiting.get(place)
            is_interruptible = self.interruptible == place
            if is_interruptible and self.interrupt_from_outside is not None:
                self.interrupt_from_outside()
        if cancel is not None:
            cancel()
        for live in list(self.lives.values()):
            if live.place == place:
                live.wake()
        # A synchronous generator on an event loop is both.
        return cancel is None or is_interruptible

    def is_to_be_interrupted(self, place: int) -> bool:
        """Other thread: whether the task at ``place`` runs on though its cancellation was requested."""
        return self.interruptible == place and place in self.cancelled

    def shield(self) -> int:
        """Keep interruptions away, until `unshield` is called with what this returns."""
        if _thread.get_ident() != self.thread:
            return 0
        place, self.interruptible = self.interruptible, 0
        if place and self.cancelled:
            self.settle()  # what came by now is raised by `unshield`
        return place

    def unshield(self, place: int) -> None:
        """End `shield`; an interruption that came meanwhile is raised now."""
        if place:
            self.interruptible = place
            if self.cancelled:
                self.interrupt()

    def settle(self) -> None:
        """Runner's thread: the task has ended; no interruption on its way may reach the next one.

        To be called when `interruptible` is 0 again.  Another thread, which has just
        seen the mark, holds the lock until it has interrupted: so that is waited for.
        The lock is not taken here, since the interruption may come at this very
        moment, between two instructions, and would leave it locked.
        """
        if self.withdraw is not None:
            while self._lock.locked():
                sleep(0)
            self.withdraw()
        if self.jumps is not None:
            self.jumps.withdraw(self.thread)

    def interrupt(self, signal: int = 0, frame: FrameType | None = None) -> None:
        """Runner's thread, as a signal handler too: raise `TaskCancelled` in the task to be cancelled."""
        place = self.interruptible
        if place and place in self.cancelled:
            self.interruptible = 0
            if frame and self.jumps is not None and self.jumps.put_off(self.thread, frame, self.interrupt):
                self.interruptible = place
                return
            raise TaskCancelled("the task was cancelled")
