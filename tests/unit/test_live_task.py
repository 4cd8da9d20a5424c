"""A task's side talk, from the worker's end."""

from __future__ import annotations

import threading
from typing import Any

from offloop.child.live import LiveTask
from offloop.child.turns import Turns


class Voice:
    """Says nothing."""

    def tell(self, kind: int, id: int, value: Any) -> None:
        """Not looked at here."""

    def pack(self, value: Any) -> Any:
        return value

    def unpack(self, packed: Any) -> Any:
        return packed


class Watched:
    """A lock that notes whether its owner could be interrupted, which might leave it locked for ever."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._lock = threading.RLock()
        self.seen: list[int] = []

    def __enter__(self) -> None:
        self.seen.append(self._turns.interruptible)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_no_cancellation_comes_while_the_lock_is_taken() -> None:
    turns = Turns()
    turns.begin()
    turns.thread = threading.get_ident()
    turns.interruptible = turns.place
    live = LiveTask.of(Voice(), turns, 1, turns.place)
    live._lock = lock = Watched(turns)  # type: ignore[assignment]
    channel = live.channel
    assert live.channel is channel
    live.report(1, 2, None)
    assert lock.seen == [0, 0]
    assert turns.interruptible == turns.place, "afterwards one may come again"
