"""The workers' side of `support.gates`: how a running task talks to the test, and waits for it.

Workers import this module, so it stays as light as `offloop` itself.
"""

from __future__ import annotations

import os
import threading
from typing import Any


def tell(path: str, text: object) -> None:
    """Post one line to the test's `Mailbox`; fails, rather than waits, if the test is gone."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


class Tell:
    """A callback (such as ``on_delete``) that posts what it is called with."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, value: object) -> None:
        tell(self.path, value)


class ATell(Tell):
    """`Tell`, as a coroutine function."""

    async def __call__(self, value: object) -> None:  # type: ignore[override]
        import asyncio

        await asyncio.sleep(0)
        tell(self.path, value)


class PassGate:
    """A callback that waits at a `Gate`."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, value: object) -> Any:
        return pass_gate(self.path)


class APassGate(PassGate):
    """`PassGate`, as a coroutine function."""

    async def __call__(self, value: object) -> Any:
        return await apass_gate(self.path)


def append_line(path: str, text: object) -> None:
    """Leave a trace that survives the worker."""
    with open(path, "a") as file:
        file.write(f"{text}\n")


def pass_gate(path: str, value: Any = None, *, arrives: bool = True) -> Any:
    """Arrive at a `Gate`, block until it lets this task through, and return the value."""
    fd = _token_descriptor(path)
    try:
        if arrives:
            tell(f"{path}.arrivals", identity())  # in here: a cancellation may come right after it
        os.set_blocking(fd, True)
        os.read(fd, 1)
    finally:
        os.close(fd)
    return value


async def apass_gate(path: str, value: Any = None) -> Any:
    """`pass_gate` for async tasks: it waits without blocking the worker's event loop."""
    import asyncio

    fd, loop, ready = _token_descriptor(path), asyncio.get_running_loop(), asyncio.Event()
    try:
        tell(f"{path}.arrivals", identity())
        while True:
            loop.add_reader(fd, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(fd)
            ready.clear()
            try:
                os.read(fd, 1)
            except BlockingIOError:  # another task took the token first
                continue
            return value
    finally:
        os.close(fd)


def _token_descriptor(path: str) -> int:
    return os.open(f"{path}.tokens", os.O_RDONLY | os.O_NONBLOCK)


def identity() -> int:
    """A number that tells workers apart, in every context."""
    return threading.get_native_id()


async def clean_up_slowly(log: str) -> None:
    """Wait until this is cancelled, and then take some turns of the event loop."""
    import asyncio

    append_line(log, "begun")
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(100):
            await asyncio.sleep(0.001)
        append_line(log, "cleaned up")
