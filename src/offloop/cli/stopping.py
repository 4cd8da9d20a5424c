"""Ctrl-C and its kind: the first one ends a run in good order, the second at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from offloop.cli.arguments import UsageError
from offloop.cli.standard import wait_no_more

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """The run was stopped by a signal.

    Attributes:
        signal: which one.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received)
        self.signal = received

    @property
    def status(self) -> int:
        """The exit status that a shell gives to what a signal ended."""
        return 128 + self.signal

    def __str__(self) -> str:
        return "interrupted" if self.signal == signal.SIGINT else f"ended by {self.signal.name}"


@contextmanager
def stoppable(hurry: Callable[[], object], is_stuck: Callable[[], bool]) -> Generator[None]:
    """Within it, SIGINT, SIGTERM and SIGHUP cancel the present asyncio task.

    From then on nobody waits for standard error.

    Args:
        hurry: called at a second signal.
        is_stuck: whether just now the event loop is held up by a write that nobody
            takes.  Then the cancellation is raised there, which breaks it off.

    Raises:
        Stopped: in place of the cancellation.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "it runs within a task"
    received: list[signal.Signals] = []

    def stop(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        wait_no_more()
        if is_stuck():
            raise asyncio.CancelledError
        loop.call_soon_threadsafe(task.cancel if len(received) == 1 else hurry)

    before = _handlers(_SIGNALS)
    for number in before:
        loop.add_signal_handler(number, lambda: None)  # the loop is woken, even as it falls asleep
        signal.signal(number, stop)  # which is called even where the loop is held up
    try:
        with _stopped_by(received):
            yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@contextmanager
def ended_by_signals() -> Generator[None]:
    """Within it, SIGTERM and SIGHUP raise `Stopped` wherever the program is, much as SIGINT does.

    Only the first of them does: it has the terminal put in order.
    """
    received: list[signal.Signals] = []

    def stop(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        if len(received) == 1:
            raise Stopped(received[0])

    before = _handlers((signal.SIGTERM, signal.SIGHUP))
    for number in before:
        signal.signal(number, stop)
    try:
        with _stopped_by(received):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handlers(numbers: Sequence[signal.Signals]) -> dict[signal.Signals, Any]:
    """The present handlers of those signals that may be handled.

    One that is ignored, as ``nohup`` and shells' background jobs have it, stays ignored.
    """
    found = {number: signal.getsignal(number) for number in numbers}
    return {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}


@contextmanager
def _stopped_by(received: list[signal.Signals]) -> Generator[None]:
    """Raise `Stopped` in place of what follows from a signal: often the terminal is gone as well."""
    try:
        yield
    except (asyncio.CancelledError, OSError, UsageError):
        if not received:
            raise
        raise Stopped(received[0]) from None
