"""Generators and talkative tasks that tests run in workers; importable there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from offloop import Environment, Task, current_task
from support.faulty import be_busy
from support.signals import apass_gate, pass_gate, tell


def count_and_tell(limit: int, mailbox: str) -> Iterator[int]:
    """Yield numbers; say how it ended."""
    try:
        yield from range(limit)
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise
    finally:
        tell(mailbox, "finally")


async def acount_and_tell(limit: int, mailbox: str) -> AsyncIterator[int]:
    """`count_and_tell`, as an async generator."""
    try:
        for number in range(limit):
            yield number
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise
    finally:
        tell(mailbox, "finally")


def count_with_gates(limit: int, gate: str) -> Iterator[int]:
    """Yield numbers, and stop at a gate after each."""
    for number in range(limit):
        yield number
        pass_gate(gate)


def run_loops(count: int) -> Iterator[int]:
    """Yield numbers, each from an event loop of the generator's own, and run one at its end."""
    try:
        for number in range(count):
            yield asyncio.run(_give(number))
    finally:
        asyncio.run(_give(count))


async def _give(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def acount_with_gates(limit: int, gate: str) -> AsyncIterator[int]:
    """`count_with_gates`, as an async generator."""
    for number in range(limit):
        yield number
        await apass_gate(gate)


def tell_each(limit: int, mailbox: str) -> Iterator[int]:
    """Yield numbers, and say each before it."""
    for number in range(limit):
        tell(mailbox, number)
        yield number


def yield_all(values: list[Any]) -> Iterator[Any]:
    """Yield the values."""
    yield from values


def yield_then_block(mailbox: str) -> Iterator[int]:
    """Yield one number, then block in a call; say how that ended."""
    yield 0
    try:
        tell(mailbox, "blocks")
        time.sleep(30)
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise
    finally:
        tell(mailbox, "finally")


def yield_then_spin(mailbox: str) -> Iterator[int]:
    """Yield one number, then be busy; say how that ended."""
    yield 0
    try:
        tell(mailbox, "blocks")
        be_busy(20)
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise
    finally:
        tell(mailbox, "finally")


def yield_then_exit(count: int) -> Iterator[int]:
    """Yield numbers, then end the process."""
    yield from range(count)
    os._exit(3)


def yield_large_then_exit(sizes: list[int]) -> Iterator[bytes]:
    """Yield that many bytes each, then end the process."""
    for size in sizes:
        yield bytes(size)
    os._exit(3)


def attempts(fail_before_item: bool) -> Iterator[int]:
    """Yield the number of the attempt; the first one crashes, before or after its item."""
    attempt = current_task().attempt
    if attempt == 1 and fail_before_item:
        os._exit(3)
    yield attempt
    if attempt == 1:
        os._exit(3)


def fail_to_close() -> Iterator[int]:
    """Raise when closed."""
    try:
        yield from range(1000)
    finally:
        raise KeyError("closing failed")


def close_slowly(mailbox: str) -> Iterator[int]:
    """Take very long to close."""
    try:
        yield from range(1000)
    finally:
        tell(mailbox, "closes")
        time.sleep(30)


def refuse_to_close() -> Iterator[int]:
    """Yield again when closed, but only once."""
    try:
        while True:
            yield 0
    except GeneratorExit:
        yield 1


def new_lock_if(flag: int) -> Any:
    """Something that can't be pickled, if asked for."""
    import threading

    return threading.Lock() if flag else None


def make_fails_in_parent(parent: Any) -> Any:
    """Something that can't be loaded in this process."""
    from support.faulty import FailsInParent

    return FailsInParent(parent) if parent else 0


def fork_once(_: int) -> int:
    """Fork; the child ends at once.  Returns its exit code."""
    child = os.fork()
    if child == 0:
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class NumbersWithEnvironment(Task[int]):
    """Yields what is in the environment."""

    def run(self, environment: Environment) -> Iterator[Any]:
        environment["count"] = environment.get("count", 0) + 1
        yield environment["count"]
        yield current_task().task_id


# --- being stuck somewhere ------------------------------------------------------------------


def outer_wait(gate: str) -> None:
    """Wait at a gate, in another function."""
    inner_wait(gate)


def inner_wait(gate: str) -> None:
    """Wait at a gate."""
    pass_gate(gate)  # here it waits


async def aouter_wait(gate: str) -> None:
    """`outer_wait`, as a coroutine function."""
    await ainner_wait(gate)


async def ainner_wait(gate: str) -> None:
    """`inner_wait`, as a coroutine function."""
    await apass_gate(gate)  # here it waits


async def yield_waiting(gate: str) -> AsyncIterator[int]:
    """An async generator that waits at a gate."""
    await ainner_wait(gate)
    yield 1


def spin_in_c(mailbox: str) -> None:
    """Be busy in C code that lets no other thread run."""
    import itertools

    tell(mailbox, "spins")
    max(itertools.repeat(0))  # never returns


def yield_then_raise_async_end() -> Iterator[int]:
    """Raises what ends an async generator."""
    yield 1
    raise StopAsyncIteration("not the end")
