"""An owner of links that passes on what it hears: the base of those who step in now and then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from offloop.link import Exit, ItemSink, LinkOwner


class Relay(LinkOwner):
    """Passes on what a link reports.

    Args:
        owner: who is told in the end.
    """

    def __init__(self, owner: LinkOwner) -> None:
        self.owner = owner

    def link_ready(self) -> None:
        """Pass it on."""
        self.owner.link_ready()

    def link_result(self, id: int, value: Any, start: float, end: float) -> None:
        """Pass it on."""
        self.owner.link_result(id, value, start, end)

    def link_loaded(self, id: int, seconds: float) -> None:
        """Pass it on."""
        self.owner.link_loaded(id, seconds)

    def link_delivered(self) -> None:
        """Pass it on."""
        self.owner.link_delivered()

    def link_failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Pass it on."""
        self.owner.link_failure(id, error, start, end)

    def link_unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Pass it on."""
        self.owner.link_unloadable(id, error, start, end)

    def link_cancelled(self, id: int, start: float, end: float) -> None:
        """Pass it on."""
        self.owner.link_cancelled(id, start, end)

    def link_returned(self, ids: Iterable[int]) -> None:
        """Pass it on."""
        self.owner.link_returned(ids)

    def link_overgrown(self, size: int, fresh: int) -> None:
        """Pass it on."""
        self.owner.link_overgrown(size, fresh)

    def link_said(self, kind: int, id: int, value: Any) -> None:
        """Pass it on."""
        self.owner.link_said(kind, id, value)

    def link_stream(self, id: int) -> ItemSink | None:
        """Ask."""
        return self.owner.link_stream(id)

    def link_held(self) -> bool:
        """Ask."""
        return self.owner.link_held()

    def link_exited(self, exit: Exit) -> None:
        """Pass it on."""
        self.owner.link_exited(exit)
