"""The environment that a worker has by default."""

from __future__ import annotations

import time
from collections import deque

from offloop.environment.base import Environment
from offloop.environment.checks import INFINITY, check_key, check_options
from offloop.environment.loops import Alarm, Pending, is_awaitable, logger

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any
    from weakref import ref

    from offloop.environment.base import OnDelete

#: Stale items that the heap may hold beyond one per entry before it is rebuilt:
#: enough that a small store is never rebuilt for a handful of deletions.
_HEAP_SLACK = 64
#: How often `close` clears again what callbacks stored while it was clearing.
_CLOSE_ROUNDS = 10


class _Entry:
    """A value and its terms; only ``deadline`` changes, when a sliding TTL restarts."""

    __slots__ = ("deadline", "key", "on_delete", "sequence", "sliding", "ttl", "value")

    def __init__(
        self,
        key: str,
        value: Any,
        ttl: float | None,
        deadline: float,
        sequence: int,
        sliding: bool,
        on_delete: OnDelete | None,
    ) -> None:
        self.key = key
        self.value = value
        self.ttl = ttl
        self.deadline = deadline
        self.sequence = sequence
        self.sliding = sliding
        self.on_delete = on_delete


class LocalEnvironment(Environment):
    """The environment that a worker has by default: a dictionary with expiry.

    Its entries live in the worker's own memory.  It belongs to one thread, the
    worker's, and must not be used from another.

    An entry is gone from its deadline on, whoever looks.  It is freed by the
    next access that finds it due, by the worker, which sleeps no longer than
    until `next_deadline`, or, where a TTL was set on a running asyncio loop, by
    one timer of that loop.  Nothing polls.

    ``on_delete`` runs once the entry is out of the store and, where it is
    replaced, its successor is in; so it may use the environment as it likes.
    If it raises an ``Exception``, that is logged (``offloop.environment``) and
    nobody else is bothered.  Any other ``BaseException``, such as
    `TaskCancelled`, is raised once all callbacks that are due have run.  An
    awaitable that it returns becomes a task of the running loop, or is kept for
    `take_pending`.

    Args:
        clock: returns the time in seconds, and never goes backwards.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        # (deadline, sequence, key), at least one for each entry with a TTL, and
        # none later than the entry's deadline, which `get` may since have moved.
        # It names no entries, so that a stale item keeps no value alive.
        self._heap: list[tuple[float, int, str]] = []
        self._sequence = 0
        self._alarm = Alarm()
        self._pending = Pending()

    def exists(self, key: str) -> bool:
        """Whether an unexpired entry is there; this does not restart a sliding TTL."""
        return self._find(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key``, or ``default``; this restarts a sliding TTL."""
        entry = self._entries.get(key)
        if entry is None:
            check_key(key)
            return default
        ttl = entry.ttl
        if ttl is None:
            return entry.value
        now = self._clock()
        if entry.deadline <= now:
            entry = self._find(key)
            return default if entry is None else entry.value
        if entry.sliding:
            entry.deadline = now + ttl  # its heap item catches up when it comes to the top
        return entry.value

    def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        sliding: bool = False,
        on_delete: OnDelete | None = None,
    ) -> None:
        """Store a value; see `Environment.set`.  Arguments that are refused change nothing."""
        check_key(key)
        ttl = check_options(ttl, on_delete)
        if value is None:
            self.delete(key)
            return
        self._sequence = sequence = self._sequence + 1
        deadline = INFINITY if ttl is None else self._clock() + ttl
        if ttl is not None:
            # Before the entry: were we interrupted in between, a stale item does no harm.
            from heapq import heappush

            heappush(self._heap, (deadline, sequence, key))
        new = _Entry(key, value, ttl, deadline, sequence, bool(sliding), on_delete)
        old = self._entries.get(key)
        if old is not None and old.ttl is not None and old.deadline <= self._clock():
            del self._entries[key]  # its place in the order of iteration expired with it
        self._entries[key] = new
        if ttl is not None:
            self._set_alarm()
        if old is not None:
            self._release(deque((old,)))

    def delete(self, key: str) -> None:
        """Remove the entry; a missing key is no error."""
        check_key(key)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._release(deque((entry,)))

    def clear(self) -> None:
        """Remove all entries; what their callbacks store meanwhile stays."""
        leaving = deque(self._entries.values())
        self._entries = {}
        self._release(leaving)

    def close(self) -> None:
        """Drop everything, also what callbacks store meanwhile."""
        for _ in range(_CLOSE_ROUNDS):
            self.clear()
            if not self._entries:
                return
        count = len(self._entries)
        self._entries = {}  # their callbacks would only store them again
        self._release(deque())
        logger().error("on_delete callbacks kept storing entries at shutdown: dropped the last %d", count)

    def next_deadline(self) -> float | None:
        """When the earliest entry expires, in seconds of the clock, or None where none will."""
        heap = self._heap
        while heap:
            deadline, sequence, key = heap[0]
            entry = self._entries.get(key)
            if entry is None or entry.sequence != sequence:
                from heapq import heappop

                heappop(heap)
            elif entry.deadline > deadline:
                from heapq import heapreplace

                heapreplace(heap, (entry.deadline, sequence, key))
            else:
                return deadline
        return None

    def expire(self) -> None:
        """Drop the entries that are due, the earliest first."""
        now = self._clock()
        leaving: deque[_Entry] = deque()
        try:
            while (deadline := self.next_deadline()) is not None and deadline <= now:
                leaving.append(self._entries.pop(self._heap[0][2]))
        finally:
            if leaving:
                self._release(leaving)

    def take_pending(self) -> list[Awaitable[Any]]:
        """Hand over what asynchronous callbacks left; failures in it are logged, not raised.

        Returns:
            What was left while no loop was running, and the unfinished tasks
            of the loop that this is called on.
        """
        return self._pending.take()

    def adopt_pending(self) -> None:
        """Make what was left while no loop was running tasks of the running loop."""
        self._pending.adopt()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys that are there now, leaving out those that go meanwhile."""
        for key in list(self._entries):
            if self._find(key) is not None:
                yield key

    def __len__(self) -> int:
        self.expire()
        return len(self._entries)

    def __repr__(self) -> str:
        now = self._clock()  # counted without freeing what is due: a repr calls nobody back
        return f"<{type(self).__name__} entries={sum(e.deadline > now for e in self._entries.values())}>"

    def _find(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            check_key(key)
        elif entry.deadline <= self._clock():
            self.expire()
            entry = self._entries.get(key)  # a callback may have stored it anew
            if entry is not None and entry.deadline <= self._clock():
                return None
        return entry

    def _release(self, leaving: deque[_Entry]) -> None:
        """Call back the owners of entries that are out of the store."""
        self._compact()
        if self._alarm.is_set and self.next_deadline() is None:
            self._alarm.cancel()
        failure: BaseException | None = None
        while leaving:
            try:
                while leaving:
                    self._notify(leaving.popleft())
            except BaseException as error:  # raised below, when everybody was called
                if failure is None:
                    failure = error
                else:
                    failure.add_note(f"on_delete of another entry raised {type(error).__name__}")
        if failure is not None:
            raise failure

    def _compact(self) -> None:
        """Rebuild the heap when stale items dominate; each rebuild is paid for by that many removals."""
        if len(self._heap) > 2 * len(self._entries) + _HEAP_SLACK:
            timed = [entry for entry in self._entries.values() if entry.ttl is not None]
            heap = [(entry.deadline, entry.sequence, entry.key) for entry in timed]
            from heapq import heapify

            heapify(heap)
            self._heap = heap

    def _notify(self, entry: _Entry) -> None:
        if entry.on_delete is None:
            return
        try:
            result = entry.on_delete(entry.value)
            if is_awaitable(result):
                self._pending.add(result, entry.key)
        except Exception:
            logger().exception("on_delete of %r failed", entry.key)

    def _wake(self) -> None:
        """Expire what is due, and set the loop's timer anew: the timer calls this."""
        self._alarm.cancel()
        try:
            self.expire()
        finally:
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Have a running loop expire the next entry; the worker does that where there is none."""
        deadline = self.next_deadline()
        if deadline is not None:
            self._alarm.set(deadline, deadline - self._clock(), _ring, self)


def _ring(owner: ref[LocalEnvironment]) -> None:
    environment = owner()
    if environment is not None:
        environment._wake()
