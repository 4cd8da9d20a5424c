"""Ctrl-C and its kind: the first one ends a run in good order, the second at once."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from offloop.cli.arguments import UsageError
from offloop.cli.standard import wait_no_more
from offloop.errors import OffloopError

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
def stoppable(hurry: Callable[[], object], let_go: Callable[[], object]) -> Generator[None]:
    """Within it, SIGINT, SIGTERM and SIGHUP cancel the present asyncio task.

    From then on nobody waits for the readers of standard output and standard error.

    Args:
        hurry: called at a second signal.
        let_go: called at each, wherever the event loop is held up: it has nobody
            wait for the reader of the results.

    Raises:
        Stopped: in place of the cancellation.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "it runs within a task"

    def stop(_: int, is_first: bool) -> None:
        loop.call_soon_threadsafe(task.cancel if is_first else hurry)
        wait_no_more()
        let_go()

    with _woken_by_signals(loop), _handled(_SIGNALS, stop):
        yield


@contextmanager
def ended_by_signals() -> Generator[None]:
    """Within it, SIGTERM and SIGHUP raise `Stopped` wherever the program is, much as SIGINT does.

    Only the first of them does: it has the terminal put in order.
    """

    def stop(number: int, is_first: bool) -> None:
        if is_first:
            raise Stopped(signal.Signals(number))

    with _handled((signal.SIGTERM, signal.SIGHUP), stop):
        yield


@contextmanager
def _handled(numbers: Sequence[signal.Signals], act: Callable[[int, bool], None]) -> Generator[None]:
    """Call ``act`` at each of these signals, with its number and whether it is the first.

    One that is ignored, as ``nohup`` and shells' background jobs have it, stays ignored.

    Raises:
        Stopped: in place of what follows from a signal: often the terminal is gone as well.
    """
    received: list[int] = []

    def handle(number: int, _: object) -> None:
        is_first = not received  # settled before anything else: the next one may come within this call
        received.append(number)
        act(number, is_first)

    before = {number: signal.getsignal(number) for number in numbers}
    handled = {number: was for number, was in before.items() if was not in (signal.SIG_IGN, None)}
    try:
        for number in handled:
            signal.signal(number, handle)
        yield
    except (asyncio.CancelledError, OSError, UsageError, OffloopError):
        if not received:
            raise
        raise Stopped(signal.Signals(received[0])) from None
    finally:
        for number, was in handled.items():
            signal.signal(number, was)


@contextmanager
def _woken_by_signals(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Within it, a signal that comes just as the event loop falls asleep has its handler called, too.

    Not ``loop.add_signal_handler``: as that is taken back, a signal would end the process.
    """
    bell, rope = os.pipe()
    os.set_blocking(rope, False)
    loop.add_reader(bell, lambda: os.read(bell, select.PIPE_BUF))  # handlers are called within Python alone
    before = signal.set_wakeup_fd(rope, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        loop.remove_reader(bell)
        os.close(bell)
        os.close(rope)
