"""A task's side talk, from the worker's end."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from offloop.child.live import LiveTask
from offloop.child.turns import Turns
from offloop.errors import TaskCancelled
from offloop.wire.frames import MESSAGE


class Voice:
    """Notes whether the task could be interrupted as it spoke, which might leave the parent asleep."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.seen: list[int] = []

    def tell(self, kind: int, id: int, value: Any) -> None:
        self.seen.append(self._turns.interruptible)

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


@pytest.fixture
def turns() -> Turns:
    """Those of a worker whose first task runs, and may be interrupted."""
    turns = Turns()
    turns.begin()
    turns.thread = threading.get_ident()
    turns.interruptible = turns.place
    return turns


def test_no_cancellation_comes_while_a_channel_takes_and_speaks(turns: Turns) -> None:
    voice = Voice(turns)
    channel = LiveTask.of(voice, turns, 1, turns.place).channel
    channel.send("there")
    channel.put("back")
    assert channel.receive() == "back"
    assert voice.seen == [0, 0, 0]
    assert turns.interruptible == turns.place, "afterwards one may come again"


def test_a_cancellation_that_comes_while_a_channel_speaks_comes_behind_that(turns: Turns) -> None:
    class Cancelled(Voice):
        def tell(self, kind: int, id: int, value: Any) -> None:
            super().tell(kind, id, value)
            if kind == MESSAGE:
                assert turns.request_cancel(turns.place)

    voice = Cancelled(turns)
    channel = LiveTask.of(voice, turns, 1, turns.place).channel
    with pytest.raises(TaskCancelled):
        channel.send("there")
    assert voice.seen == [0, 0]


def test_no_cancellation_comes_while_the_lock_is_taken(turns: Turns) -> None:
    live = LiveTask.of(Voice(turns), turns, 1, turns.place)
    live._lock = lock = Watched(turns)  # type: ignore[assignment]
    channel = live.channel
    assert live.channel is channel
    live.report(1, 2, None)
    assert lock.seen == [0, 0]
    assert turns.interruptible == turns.place, "afterwards one may come again"
