"""Tasks that report their progress or use their channel; importable in workers."""

from __future__ import annotations

import os
import time
from typing import Any

from offloop import current_task
from support.signals import pass_gate, tell
from support.streaming import make_fails_in_parent

# --- progress -----------------------------------------------------------------------------


def report_each(limit: int) -> str:
    """Report each step."""
    for done in range(limit):
        current_task().report(done + 1, limit)
    return "done"


def report_with_gates(gate: str, reports: list[tuple[Any, ...]]) -> None:
    """Report, and stop at a gate after each report."""
    for report in reports:
        current_task().report(*report)
        pass_gate(gate)


async def areport(values: list[float]) -> None:
    """Report out of a coroutine."""
    import asyncio

    for value in values:
        current_task().report(value)
        await asyncio.sleep(0)


def report_then(action: str) -> None:
    """Report, then end in some bad way."""
    current_task().report(1, 2, "before")
    if action == "raise":
        raise ValueError("after the report")
    os._exit(3)


def report_values(*values: Any) -> list[str]:
    """Report values one by one; returns what that raised."""
    outcomes = []
    for value in values:
        try:
            current_task().report(*value)
            outcomes.append("")
        except Exception as error:
            outcomes.append(type(error).__name__)
    return outcomes


def report_and_square(number: int) -> int:
    """A function to be mapped that reports."""
    current_task().report(number, message="mapped")
    return number * number


def report_from_threads(count: int) -> None:
    """Report from several threads, and once more from this one when they are done."""
    import threading

    context = current_task()

    def work() -> None:
        for done in range(count):
            context.report(done)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    context.report(-1, message="last")


def report_attempt(mailbox: str) -> int:
    """Report the attempt's number; the first attempt crashes."""
    context = current_task()
    context.report(context.attempt)
    if context.attempt == 1:
        os._exit(3)
    return context.attempt


def leave_context(mailbox: str) -> None:
    """Have a thread report when the task has ended."""
    import threading

    context = current_task()
    context.report(1)
    channel = context.channel

    def late(context: Any, channel: Any) -> None:
        while context._live() is not None:
            time.sleep(0.001)
        context.report(2)
        for use in (lambda: context.channel, lambda: channel.send(1), channel.receive):
            try:
                use()
            except BaseException as error:
                tell(mailbox, type(error).__name__)
        tell(mailbox, "late")

    threading.Thread(target=late, args=(context, channel)).start()


# --- channel ---------------------------------------------------------------------------------


def add_up() -> int:
    """Answer each number with the sum so far, until None comes."""
    channel, total = current_task().channel, 0
    while (number := channel.receive()) is not None:
        total += number
        channel.send(total)
    return total


async def aadd_up() -> int:
    """`add_up`, as a coroutine function."""
    channel, total = current_task().channel, 0
    while (number := await channel.areceive()) is not None:
        total += number
        await channel.asend(total)
    return total


def send_all(values: list[Any]) -> list[str]:
    """Send values; returns what that raised."""
    outcomes = []
    for value in values:
        try:
            current_task().channel.send(value)
            outcomes.append("")
        except Exception as error:
            outcomes.append(type(error).__name__)
    return outcomes


def send_and_tell(count: int, mailbox: str) -> None:
    """Send numbers, and say each after it was sent."""
    for number in range(count):
        current_task().channel.send(number)
        tell(mailbox, number)


def send_lock_then(value: Any) -> str:
    """Send what can't be pickled, then something good; returns what the first raised."""
    import threading

    channel = current_task().channel
    try:
        channel.send(threading.Lock())
    except Exception as error:
        channel.send(value)
        return type(error).__name__
    return ""


def send_unloadable_then(parent: Any, value: Any) -> None:
    """Send what can't be loaded in that process, then something good."""
    channel = current_task().channel
    channel.send(make_fails_in_parent(parent))
    channel.send(value)


def receive_all(count: int) -> list[Any]:
    """Receive that many messages, or the names of what that raised."""
    values = []
    for _ in range(count):
        try:
            values.append(current_task().channel.receive())
        except Exception as error:
            values.append(type(error).__name__)
    return values


def receive_and_tell(mailbox: str) -> None:
    """Wait for a message; say what came out of the wait."""
    try:
        tell(mailbox, "waits")
        current_task().channel.receive()
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise
    finally:
        tell(mailbox, "finally")


async def areceive_and_tell(mailbox: str) -> None:
    """`receive_and_tell`, as a coroutine function."""
    try:
        tell(mailbox, "waits")
        await current_task().channel.areceive()
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise
    finally:
        tell(mailbox, "finally")


def send_until_full(mailbox: str) -> None:
    """Send without end; say what came out of it."""
    try:
        tell(mailbox, "sends")
        while True:
            current_task().channel.send("x")
    except BaseException as error:
        tell(mailbox, type(error).__name__)
        raise


def say_then_exit(gate: str, value: Any) -> None:
    """Send a message, and end the process when told."""
    current_task().channel.send(value)
    pass_gate(gate)
    os._exit(3)


def echo_at_second_attempt(gate: str) -> Any:
    """The first attempt opens its channel and crashes at the gate; the second echoes a message."""
    context = current_task()
    if context.attempt == 1:
        assert context.channel, "that opens it"
        pass_gate(gate)
        os._exit(3)
    return context.channel.receive()
