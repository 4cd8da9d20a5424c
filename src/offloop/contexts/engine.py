"""What offloop needs of a cluster's engine: a place for one actor, calls to it, and its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Any, NamedTuple


class Size(NamedTuple):
    """How large a cluster is.

    Attributes:
        machines: how many there are.
        cpus: how many workers have room, where each takes a CPU and nothing else runs.
    """

    machines: int
    cpus: int


class Seat(ABC):
    """One actor of an engine, which is a `offloop.contexts.far.FarWorker`."""

    #: Where it is, for people.
    where: str = ""

    @abstractmethod
    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method of the actor, without waiting.  Arguments and result are numbers and bytes.

        The future fails if the actor is gone; it may also never end.
        """

    @abstractmethod
    def release(self) -> None:
        """The actor is needed no more: end it, if it is still there.  Never blocks."""


class Engine(ABC):
    """A connection to a cluster, for one context."""

    #: Whether an actor for which there is no room waits for it, which is no failure while others work.
    waits_for_room: bool = False

    @abstractmethod
    def place(self, order: bytes) -> Future[Seat]:
        """Make an actor from a packed `Order`, somewhere, without waiting."""

    @abstractmethod
    def size(self) -> Future[Size]:
        """Ask how large the cluster is now, without waiting."""

    def lost(self, seat: Seat) -> None:
        """Nothing was heard of this actor: its place may be dead."""

    @abstractmethod
    def close(self) -> Future[None]:
        """End the connection, once all seats are released, without waiting."""
