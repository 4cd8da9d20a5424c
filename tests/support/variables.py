"""Context variables, and tasks that use them; light, as workers import this module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

from offloop import Environment, Task, current_task
from support.signals import apass_gate, append_line

request_id: ContextVar[Any] = ContextVar("request_id", default="none")
settings: ContextVar[Any] = ContextVar("settings", default=None)


def read() -> Any:
    """What the request id is."""
    return request_id.get()


def read_both() -> tuple[Any, Any]:
    """What both variables hold."""
    return request_id.get(), settings.get()


def read_for(_: object) -> Any:
    """What the request id is, for each item of a map."""
    return request_id.get()


def read_each() -> Iterator[Any]:
    """The same, from within a generator."""
    yield request_id.get()


async def aread() -> Any:
    """The same, after a turn of the event loop, in a task of its own."""
    import asyncio

    async def look() -> Any:
        await asyncio.sleep(0)
        return request_id.get()

    return await asyncio.create_task(look())


async def aread_each() -> AsyncIterator[Any]:
    """The same, from within an async generator."""
    yield await aread()


def overwrite(value: object) -> Any:
    """Set the request id; returns what it was."""
    before = request_id.get()
    request_id.set(value)
    return before


async def aoverwrite(value: object) -> Any:
    """The same on the worker's event loop."""
    return overwrite(value)


def append_to_settings(value: object) -> list[object]:
    """Change a value in place."""
    settings.get().append(value)
    found: list[object] = settings.get()
    return found


async def aread_behind_gate(path: str) -> Any:
    """What the request id is, when others run meanwhile."""
    before = request_id.get()
    await apass_gate(path)
    return before, request_id.get()


def read_with_task_id() -> tuple[Any, int]:
    """What the request id is, and what `current_task` knows."""
    return request_id.get(), current_task().task_id


def set_at_start(environment: Environment) -> None:
    """A bootstrap that sets variables for all tasks of its worker."""
    settings.set("bootstrap")
    request_id.set("bootstrap")


def crash_once_then_read(path: str) -> Any:
    """End the worker the first time, and tell the request id the second time."""
    import os

    if not os.path.exists(path):
        append_line(path, "crashed")
        os._exit(1)
    return request_id.get()


class Read(Task[Any]):
    """A task that is no call."""

    def run(self, environment: Environment) -> Any:
        return request_id.get()
