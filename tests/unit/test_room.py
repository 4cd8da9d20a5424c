"""Those who wait for a queue's room, or for the end of a worker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from offloop.errors import StatusError
from offloop.room import Room


def test_who_watches_is_asked_only_where_something_may_have_ended() -> None:
    room, dispatcher = Room(None, 1), SimpleNamespace(is_open=True, outstanding=0)
    asked: list[str] = []
    told: list[Exception] = []

    def check() -> None:
        asked.append("here")
        if not dispatcher.is_open:
            raise StatusError("the end")

    room.watchers[told.append] = check
    announced: Any = dispatcher
    for _ in range(3):  # each turn of a busy pool
        room.announce(announced)
    assert not asked
    room.may_have_ended = True
    for _ in range(3):
        room.announce(announced)
    assert len(asked) == 1
    dispatcher.is_open = False
    room.announce(announced)
    assert [str(error) for error in told] == ["the end"]
    assert not room.watchers


async def test_who_waits_no_more_is_forgotten_while_there_is_no_room() -> None:
    room = Room(1, 1)
    full: Any = SimpleNamespace(is_open=True, outstanding=2, bind=asyncio.get_running_loop)
    waits = [asyncio.ensure_future(room.wait(full)) for _ in range(3)]
    await asyncio.sleep(0)
    for wait in waits[:2]:
        wait.cancel()
    await asyncio.wait(waits[:2])
    assert len(room.waiters) == 1
    full.outstanding = 1
    room.announce(full)
    await waits[2]
    assert not room.waiters
