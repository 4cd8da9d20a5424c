"""Objects whose own code does its worst, wherever it is called; importable in workers."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

#: Ways for an object's code to fail, by name.
WAYS = ("raises", "exits", "dies", "segfaults")


def act(how: str) -> NoReturn:
    """Raise, exit, end the process, or crash as C code does."""
    if how == "exits":
        sys.exit(3)
    if how == "dies":
        os._exit(3)
    if how == "segfaults":
        import faulthandler

        faulthandler._sigsegv()  # type: ignore[attr-defined]
    raise {"raises": ValueError, "interrupts": KeyboardInterrupt, "recurses": RecursionError}[how]("hostile")


class ActsInPickle:
    """Acts while it is pickled."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> NoReturn:
        act(self.how)


class ActsInLoad:
    """Pickles well, and acts while it is loaded."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return act, (self.how,)


class ActsInSetState:
    """Pickles well, and acts when its state is set, in one process (0: in any)."""

    def __init__(self, how: str, where: int = 0) -> None:
        self.how, self.where = how, where

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["where"] in (0, os.getpid()):
            act(state["how"])
        self.__dict__.update(state)


#: Stands for any process but the one which loaded this module first, which its workers know by its variable.
ELSEWHERE = -1
os.environ.setdefault("OFFLOOP_TEST_HOME", str(os.getpid()))


class ActsWhenDeleted:
    """Acts when it is deleted, in one process, or `ELSEWHERE`."""

    def __init__(self, how: str, where: int) -> None:
        self.how, self.where = how, where

    def __del__(self) -> None:
        is_home = os.environ.get("OFFLOOP_TEST_HOME") == str(os.getpid())
        if self.where == os.getpid() or (self.where == ELSEWHERE and not is_home):
            act(self.how)


class LivesOn:
    """Refuses to go: it makes itself known again when it is deleted."""

    kept: list[LivesOn] = []

    def __del__(self) -> None:
        self.kept.append(self)


class ActsInRepr:
    """Acts when it is shown."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __repr__(self) -> str:
        act(self.how)

    __str__ = __repr__


class Locked:
    """Holds a lock, which can't be pickled."""

    def __init__(self) -> None:
        import threading

        self.lock = threading.Lock()


class HugeRepr:
    """Shows itself at great length."""

    def __repr__(self) -> str:
        return "x" * (4 << 20)


class RefusesEverything:
    """Every comparison, hash, truth and length raises."""

    def _refuse(self, *args: object) -> NoReturn:
        raise RuntimeError("not with me")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = __bool__ = __len__ = __iter__ = __contains__ = __call__ = _refuse  # type: ignore[assignment]


class ClaimsToBeAnother:
    """Says that it is of another class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("my class is my own affair")


class HostileMeta(type):
    """A class of classes that refuse to say their name."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__", "__await__"):
            raise RuntimeError("no name")
        return super().__getattribute__(name)


class Nameless(metaclass=HostileMeta):
    """Its class has no name that can be asked for."""


# --- tasks -------------------------------------------------------------------------------------------


class HasHostileRun:
    """A task whose ``run`` is not there when it is wanted."""

    @property
    def run(self) -> Any:
        raise RuntimeError("no run for you")


class HasHostileRepr(ActsInRepr):
    """A task that can't be shown, and acts."""

    def __init__(self, in_repr: str, how: str) -> None:
        super().__init__(in_repr)
        self.in_run = how

    def run(self, environment: object) -> NoReturn:
        act(self.in_run)


def take(*values: object) -> int:
    """Take anything; give nothing of it back."""
    return len(values)


def die(*values: object) -> NoReturn:
    """Take anything, and end the process."""
    os._exit(3)


def wait(*values: object) -> None:
    """Take anything, and wait."""
    import time

    time.sleep(60)


def make(module: str, name: str, *args: Any) -> Any:
    """An object of a class, made in the worker."""
    return getattr(importlib.import_module(module), name)(*args)


# --- what is awaited or iterated ---------------------------------------------------------------------


class OddAwaitable:
    """An awaitable that does what no awaitable does."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __await__(self) -> Any:
        if self.how == "gives no iterator":
            return 3
        if self.how == "yields what is no future":
            return iter([object()])
        return self._acting()

    def _acting(self) -> Any:
        act(self.how)
        yield


def await_odd(how: str) -> OddAwaitable:
    """A task whose result is awaited in vain."""
    return OddAwaitable(how)


def yield_then_act(how: str) -> Iterator[int]:
    """A generator that acts after its first item."""
    yield 1
    act(how)


async def ayield_then_act(how: str) -> AsyncIterator[int]:
    """The same, as an async generator."""
    yield 1
    act(how)


def act_when_closed(how: str) -> Iterator[int]:
    """A generator that acts when it is closed."""
    try:
        number = 0
        while True:
            yield number
            number += 1
    finally:
        act(how)


def yield_again_when_closed() -> Iterator[int]:
    """A generator that will not be closed."""
    while True:
        try:
            yield 1
        except GeneratorExit:
            yield 2


def act_on(how: Any) -> Any:
    """Act, unless it is 0."""
    return act(how) if how else 0


def give_acting(when: str) -> Any:
    """A result, an item, or a message that acts on its way."""
    return {"in pickle": ActsInPickle, "in load": ActsInLoad}[when]("exits")


def yield_acting(when: str) -> Iterator[Any]:
    """A stream whose second item acts on its way."""
    yield 0
    yield give_acting(when)


# --- environments ------------------------------------------------------------------------------------


class ActsOnDelete:
    """An ``on_delete`` callback that acts."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, value: object) -> None:
        if self.how == "hangs":
            import time

            time.sleep(600)
        act(self.how)


class StoreThatActs:
    """A task that stores an entry whose end is hostile."""

    def __init__(self, how: str, ttl: float | None = None) -> None:
        self.how, self.ttl = how, ttl

    def run(self, environment: Any) -> str:
        environment.set("hostile", 1, self.ttl, on_delete=ActsOnDelete(self.how))
        return "stored"


class StoreThatActsOnLoop(StoreThatActs):
    """The same, out of a coroutine."""

    async def run(self, environment: Any) -> str:  # type: ignore[override]
        return super().run(environment)


class Forget:
    """A task that deletes that entry."""

    def run(self, environment: Any) -> bool:
        environment.delete("hostile")
        return "hostile" in environment


class ActingBootstrap(ActsOnDelete):
    """A bootstrap that acts."""


class NeverExitingBootstrap(ActsOnDelete):
    """A bootstrap that acts, and leaves an exit function that does not return."""

    def __call__(self, value: object) -> None:
        from support.spoiling import hang_at_exit

        hang_at_exit()
        super().__call__(value)


class HangingBootstrap:
    """A bootstrap that waits at a gate."""

    def __init__(self, gate: str) -> None:
        self.gate = gate

    def __call__(self, environment: object) -> None:
        from support.signals import pass_gate

        pass_gate(self.gate)


class LockedBootstrap(Locked):
    """A bootstrap that can't be pickled."""

    def __call__(self, environment: object) -> None:
        return None


def acting_environment(how: str) -> Any:
    """An environment factory that acts."""

    def make_environment() -> NoReturn:
        act(how)

    return make_environment


class HostileHash:
    """A key whose ``__hash__`` acts."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __hash__(self) -> int:  # noqa: PLE0309 -- that is the point
        act(self.how)


class HostileEq:
    """A key that has a hash, equal for all, and whose ``__eq__`` raises."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("equal to nobody")
