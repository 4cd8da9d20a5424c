"""What happens to workers that nobody shut down when their event loop ends."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher

#: Seconds for workers to end in good order as their event loop ends; then they are killed.
GRACE = 5.0


def at_loop_end(end: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Have something awaited when the running event loop ends.

    A loop that ends closes its async generators (``shutdown_asyncgens``, which
    `asyncio.run` calls); this makes one that waits for that.

    Returns:
        A function that takes it back.  It must be kept: dropping it is dropping the generator.
    """
    armed = True

    async def guard() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if armed:
                await end()

    generator = guard()
    _run_to_next_stop(generator.__anext__())  # to the yield, which tells the loop of the generator

    def disarm() -> None:
        nonlocal armed
        if armed:
            armed = False
            _run_to_next_stop(generator.aclose())

    return disarm


def _run_to_next_stop(step: Awaitable[None]) -> None:
    """Run a step of a generator that awaits nothing."""
    try:
        step.__await__().send(None)
    except (StopIteration, RuntimeError):
        pass  # it is done; or it is being closed by the loop just now


async def end_with_loop(dispatcher: Dispatcher) -> None:
    """Shut down what is left as the event loop ends; with a `ResourceWarning`, unless that was agreed on."""
    if dispatcher.ended_for_good or not dispatcher.has_workers:
        return
    if dispatcher.is_open:
        if not dispatcher.ends_with_loop:
            warnings.warn(f"{dispatcher.owner()!r} was never shut down", ResourceWarning, stacklevel=1)
        dispatcher.cancel_all(running=True)
    closed = dispatcher.close(cancel_pending=True)
    await asyncio.wait([closed], timeout=GRACE)
    if not closed.done():
        dispatcher.kill()
        await asyncio.wait([closed], timeout=GRACE)
