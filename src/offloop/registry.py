"""The workers and pools of this process: who is told of them, and where each may be used."""

from __future__ import annotations

import asyncio
import os
from asyncio.events import _get_running_loop
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher

#: Called with each new dispatcher; OpenTelemetry's spans are set up so.
newcomers: list[Callable[[Dispatcher], None]] = []
#: Called with the ``repr`` of each worker or pool that nobody shut down; `offloop.testing` adds one.
witnesses: list[Callable[[str], None]] = []
#: Those that were used and have not ended; `offloop.testing` looks for leaks among them.
in_use: WeakSet[Dispatcher] = WeakSet()
#: The thread in which each was first used.
_threads: WeakKeyDictionary[Dispatcher, int] = WeakKeyDictionary()
#: Those of the process that this one was forked from.  Kept, as their loops share its descriptors.
_parents: list[Dispatcher] = []


def tell_newcomers(dispatcher: Dispatcher) -> None:
    """A worker or pool was made."""
    for tell in newcomers:
        tell(dispatcher)


def tell_witnesses(who: str) -> None:
    """A worker or pool ends because nobody shut it down."""
    for witness in tuple(witnesses):
        witness(who)


def note_use(dispatcher: Dispatcher) -> None:
    """It is used for the first time, in this thread."""
    in_use.add(dispatcher)
    _threads[dispatcher] = get_ident()


def not_here(dispatcher: Dispatcher, loop: asyncio.AbstractEventLoop | None) -> RuntimeError:
    """The error for a worker or pool that is used where this event loop runs, or none does."""
    if dispatcher in _parents:
        return RuntimeError("this worker or pool belongs to the process that was forked; make a new one here")
    if loop is None:
        return RuntimeError(
            "no event loop is running here: a worker or pool is used from async code, on its own "
            "event loop; from synchronous code and other threads use offloop.Executor"
        )
    return RuntimeError(
        "this worker or pool belongs to another event loop; make one for each loop, or use "
        "offloop.Executor, which may be used from any thread"
    )


def refuse_elsewhere(dispatcher: Dispatcher) -> None:
    """Refuse a call that comes from elsewhere while the dispatcher's event loop runs, or another one here.

    Raises:
        RuntimeError: so it is.
    """
    here, loop = _get_running_loop(), dispatcher.loop
    if here is loop or loop is None or dispatcher in _parents:
        return
    # A task of an inline worker runs on the event loop, which it does not see.
    if here is not None or (loop.is_running() and _threads.get(dispatcher) != get_ident()):
        raise not_here(dispatcher, here)


def _forked() -> None:
    for dispatcher in list(in_use):
        dispatcher.forked()
        _parents.append(dispatcher)
    in_use.clear()


os.register_at_fork(after_in_child=_forked)
