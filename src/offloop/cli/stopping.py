"""Ctrl-C and its kind: the first one ends a run in good order, the second at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

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
def stoppable(hurry: Callable[[], object]) -> Generator[None]:
    """Within it, SIGINT, SIGTERM and SIGHUP cancel the present asyncio task.

    A signal that is ignored, as ``nohup`` and shells' background jobs have it,
    stays ignored.

    Args:
        hurry: called at a second signal.

    Raises:
        Stopped: in place of the cancellation.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "it runs within a task"
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()
        else:
            hurry()

    watched = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in watched:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        task.uncancel()
        raise Stopped(received[0]) from None
    finally:
        for number in watched:
            loop.remove_signal_handler(number)
