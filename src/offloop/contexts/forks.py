"""What a process that the parent forks must not hold: the parent's ends of its workers' sockets and pipes."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Closable(Protocol):
    """A socket, or the like."""

    def close(self) -> None:
        """Close it; doing so again does nothing."""


_ends: WeakSet[Closable] = WeakSet()


def close_in_forks(*ends: Closable) -> None:
    """Close these in every process forked from this one.

    A forked child that held them would keep workers alive after the parent's
    death, and could speak on them.
    """
    _ends.update(ends)


def _close_all() -> None:
    for end in list(_ends):
        end.close()


os.register_at_fork(after_in_child=_close_all)
