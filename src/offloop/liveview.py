"""``with pool.live():`` a view of what a pool does, in the terminal, while it does it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from offloop.checks import check_seconds
from offloop.observe.view import View

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher
    from offloop.observe.statistics import Statistics


class Drawing(Protocol):
    """Draws views until it is stopped; what `drawing` returns."""

    def __enter__(self) -> Any:
        """Begin."""
        ...

    def __exit__(self, *error: object) -> Any:
        """Draw once more, and stop."""
        ...


def drawing(views: Callable[[], Sequence[View]]) -> Drawing:
    """What draws views on standard error, from a thread of its own; nothing where that is no terminal.

    Raises:
        ImportError: the extra is not installed.
    """
    try:
        # Loaded by name, as a plug-in: drawing belongs to the command line, a layer above this one.
        module = importlib.import_module("offloop.cli.bar")
    except ModuleNotFoundError as error:
        raise ImportError("live() needs the extra offloop[cli]: pip install 'offloop[cli]'") from error
    made: Drawing = module.LiveViews(views)
    return made


class LiveView:
    """Shows a pool's `statistics` in the terminal for as long as its ``with`` block lasts.

    The snapshots are taken on the event loop; what draws them is a thread of its own.
    """

    def __init__(self, dispatcher: Dispatcher, statistics: Callable[[], Statistics], interval: float) -> None:
        self._dispatcher = dispatcher
        self._statistics = statistics
        self._interval = check_seconds("interval", interval)
        self._view = View()
        self._timer: asyncio.TimerHandle | None = None
        self._drawing: Drawing | None = None

    def __enter__(self) -> Self:
        loop = self._dispatcher.bind()
        if self._drawing is not None:
            raise RuntimeError("a live view is shown once; make another one")
        self._drawing = drawing(lambda: [self._view])
        self._look()
        self._drawing.__enter__()
        self._timer = loop.call_later(self._interval, self._look_again, loop)
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None and self._drawing is not None:
            self._timer.cancel()
            self._look()
            self._drawing.__exit__(*error)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._interval, self._look_again, loop)
        self._look()

    def _look(self) -> None:
        owner = self._dispatcher.owner()
        self._view.update(self._statistics().to_dict(), repr(owner) if owner is not None else "")
