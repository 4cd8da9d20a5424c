"""The interface of an environment, and what follows from it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine, ItemsView, MutableMapping, ValuesView

from offloop.environment.checks import check_key, check_options

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any

    from offloop.environment.creation import Creation

    OnDelete = Callable[[Any], object]

_MISSING: Any = object()


class Environment(MutableMapping[str, "Any"]):
    """A key-value store that belongs to one worker and outlives its tasks.

    It is used from its worker's thread only and takes no locks.  Keys are
    ``str`` (anything else is a ``TypeError``), and ``None`` is never stored:
    setting a key to ``None`` deletes it.

    To make one of your own, subclass it and implement the abstract methods;
    the mapping protocol, `get_or_set` and `aget_or_set` come on top of them.
    A subclass whose entries expire by themselves also overrides
    `next_deadline` and `expire`, which its worker calls.
    """

    _creations: dict[str, Creation] | None = None

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether an unexpired entry is there; this does not restart a sliding TTL."""

    @abstractmethod
    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key``, or ``default``; this restarts a sliding TTL."""

    @abstractmethod
    def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        sliding: bool = False,
        on_delete: OnDelete | None = None,
    ) -> None:
        """Store a value, in place of the entry that ``key`` may have.

        Args:
            key: its name.
            value: anything; ``None`` deletes the key.
            ttl: seconds until it expires; ``None``, ``0`` and infinity mean never.
            sliding: whether every `get` restarts the TTL.
            on_delete: called with the value, exactly once, when the entry
                goes: deleted, replaced, expired, cleared, or at the worker's
                end.  It may be a coroutine function.

        Raises:
            TypeError: a key that is no ``str``, a TTL that is no number (a
                ``bool`` is none), an ``on_delete`` that is not callable.
            ValueError: a TTL that is negative or NaN.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the entry; a missing key is no error."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all entries."""

    def next_deadline(self) -> float | None:
        """When the earliest entry expires, in ``time.monotonic`` seconds, or None where none will."""
        return None

    def expire(self) -> None:
        """Drop the entries that are due; the worker calls this at `next_deadline`."""

    def close(self) -> None:
        """Drop everything, since the worker shuts down."""
        self.clear()

    def take_pending(self) -> list[Awaitable[Any]]:
        """Hand over what asynchronous ``on_delete`` callbacks left to be awaited.

        The worker awaits each of them.  Call it on the event loop that will.
        """
        return []

    def adopt_pending(self) -> None:
        """Have the running loop await what was left while no loop was running."""

    def get_or_set(
        self,
        key: str,
        factory: Callable[[], Any],
        ttl: float | None = None,
        *,
        sliding: bool = False,
        on_delete: OnDelete | None = None,
    ) -> Any:
        """The value of ``key``, made by ``factory()`` and stored if it is missing.

        Args:
            key: its name.
            factory: called without arguments.  Where it returns ``None``, that
                is returned and nothing is stored; what it raises is passed on.
            ttl: seconds; this and the other options are those of `set`, and
                apply to a value that is made here.
            sliding: see `set`.
            on_delete: see `set`.

        Raises:
            TypeError: as `set`, and for a factory that is asynchronous.
            ValueError: as `set`.
        """
        check_options(ttl, on_delete, factory)
        value = self.get(key, _MISSING)
        if value is not _MISSING:
            return value
        value = factory()
        if isinstance(value, Coroutine):
            value.close()
            raise TypeError("the factory is asynchronous: use aget_or_set")
        if value is not None:
            self.set(key, value, ttl, sliding=sliding, on_delete=on_delete)
        return value

    async def aget_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[Any]],
        ttl: float | None = None,
        *,
        sliding: bool = False,
        on_delete: OnDelete | None = None,
    ) -> Any:
        """`get_or_set` with an async factory; concurrent callers share one creation.

        The first caller awaits ``factory()`` itself, and the others wait for
        its outcome: they get its value (``None`` too) or its exception.

        A caller that is cancelled while it waits just leaves.  One that is
        cancelled while its factory runs takes that creation with it, and one of
        those waiting starts its own.  Either way nothing is left behind.

        Raises:
            TypeError: as `set`.
            ValueError: as `set`.
            RuntimeError: the factory asks for the key that it is making.
        """
        from asyncio import current_task

        from offloop.environment.creation import Creation

        check_options(ttl, on_delete, factory)
        task = current_task()
        assert task is not None  # asyncio runs coroutines in tasks only
        if self._creations is None:
            self._creations = {}
        while (value := self.get(key, _MISSING)) is _MISSING:
            creation = self._creations.get(key)
            # One of another loop can't be waited for: that loop may never run again.
            if creation is None or creation.task.get_loop() is not task.get_loop():
                break
            if await creation.wait(task):
                return creation.result()
        else:
            return value
        with Creation(self._creations, key, task) as creation:
            value = await factory()
            if value is not None:
                self.set(key, value, ttl, sliding=sliding, on_delete=on_delete)
            creation.finish(value)
        return value

    def __contains__(self, key: object) -> bool:
        return self.exists(check_key(key))

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.exists(key):
            raise KeyError(key)
        self.delete(key)

    # The next four are MutableMapping's, made safe for an entry that expires between two steps.

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove ``key`` and return its value, or ``default`` where that is given, else ``KeyError``."""
        value = self.get(key, _MISSING)
        if value is not _MISSING:
            self.delete(key)
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        """Remove the first entry and return its key and value; ``KeyError`` where there is none."""
        for item in self.items():
            self.delete(item[0])
            return item
        raise KeyError("popitem(): environment is empty")

    def values(self) -> ValuesView[Any]:
        """A view of the values; reading them is a `get` of each."""
        return _Values(self)

    def items(self) -> ItemsView[str, Any]:
        """A view of the keys and values; reading them is a `get` of each."""
        return _Items(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} entries={len(self)}>"


class _Values(ValuesView["Any"]):
    """The values; one that expires during an iteration is left out of it."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._environment = environment

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._environment.items())

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)


class _Items(ItemsView[str, "Any"]):
    """The keys and values; an entry that expires during an iteration is left out of it."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._environment = environment

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for key in self._environment:
            value = self._environment.get(key, _MISSING)
            if value is not _MISSING:
                yield key, value
