"""What a dispatcher is made from: how to treat its workers, and who makes the place where they live."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from offloop.link import Context
from offloop.scheduling.state import Limits


class Policy(NamedTuple):
    """How a dispatcher treats its workers.

    Attributes:
        limits: the scheduler's options.
        queue_limit: how many tasks may wait, or None.
        cancel_grace: seconds a cancelled task may go on before its worker is killed.
        max_memory: bytes of resident memory above which a worker is replaced, or None.
        heal: whether a lost worker is replaced; a single worker is not.
    """

    limits: Limits
    queue_limit: int | None = None
    cancel_grace: float = 1.0
    max_memory: int | None = None
    heal: bool = True


class ContextMaker(Protocol):
    """What a dispatcher needs of a factory."""

    @property
    def kind(self) -> str:
        """What that context is called."""
        ...

    def context(self) -> Context:
        """Open the context in which its workers live."""
        ...
