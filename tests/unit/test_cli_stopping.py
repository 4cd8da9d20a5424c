"""Signals that stop a run: two at once, and while their handlers are put in place or taken back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from offloop.cli import stopping
from offloop.cli.stopping import Stopped, ended_by_signals, stoppable
from offloop.errors import WorkerKilled


def nothing() -> None:
    """A second signal, or nobody to let go."""


@pytest.fixture
def caught() -> Iterator[list[int]]:
    """What reached the handlers of the program itself."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in numbers}
    yield caught
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


async def sent(number: signal.Signals) -> None:
    send(number)
    await asyncio.Event().wait()


def kill_after(number: signal.Signals) -> None:
    send(number)
    raise WorkerKilled


async def test_a_signal_within_the_handler_of_the_first_one_is_the_second(
    caught: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = [signal.SIGINT]
    monkeypatch.setattr(stopping, "wait_no_more", lambda: coming and send(coming.pop()))
    hurried: list[bool] = []
    with pytest.raises(Stopped, match="SIGTERM"), stoppable(lambda: hurried.append(True), nothing):
        await sent(signal.SIGTERM)
    assert (hurried, caught) == ([True], [])


async def test_what_a_killed_pool_raises_after_a_signal_is_told_as_that_signal(caught: list[int]) -> None:
    with pytest.raises(Stopped, match="SIGTERM"), stoppable(nothing, nothing):
        kill_after(signal.SIGTERM)
    with pytest.raises(WorkerKilled), stoppable(nothing, nothing):
        raise WorkerKilled


def signal_after_each(monkeypatch: pytest.MonkeyPatch, given: list[Any]) -> None:
    """SIGTERM comes whenever a handler of it was set, and that is noted."""
    real: Callable[..., Any] = signal.signal

    def set_handler(number: int, handler: Any) -> Any:
        before = real(number, handler)
        if number == signal.SIGTERM:
            given.append(handler)
            if handler is not signal.SIG_DFL:
                send(signal.SIGTERM)
        return before

    monkeypatch.setattr(signal, "signal", set_handler)


async def test_a_signal_is_never_lost_nor_left_to_its_default_action(
    caught: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        signal_after_each(patch, given := [])
        with pytest.raises(Stopped, match="SIGTERM"), stoppable(nothing, nothing):
            await asyncio.Event().wait()
    assert signal.SIG_DFL not in given
    assert caught == [signal.SIGTERM]  # once it had its own handler again


def test_only_the_first_signal_ends_what_is_ended_by_signals(
    caught: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        signal_after_each(patch, [])
        with pytest.raises(Stopped, match="SIGTERM"), ended_by_signals():
            pytest.fail("the signal came before")
    send(signal.SIGHUP)
    assert caught == [signal.SIGTERM, signal.SIGHUP]


async def test_a_wakeup_descriptor_of_the_program_is_there_again(caught: list[int]) -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with stoppable(nothing, nothing):
        assert signal.set_wakeup_fd(-1) != before
    assert signal.set_wakeup_fd(before) == before
