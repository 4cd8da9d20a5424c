"""Exceptions whose own code does its worst, and functions that raise them; importable in workers."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from support.hostile import ActsInLoad, ActsInRepr, HostileMeta, act


class ActsInText(Exception):
    """An exception that acts when its text is wanted."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how

    def __str__(self) -> str:  # noqa: PLE0307 -- that is the point
        act(self.how)

    __repr__ = __str__


def raise_unspeakable(how: str) -> NoReturn:
    """Raise it."""
    raise ActsInText(how)


class PicklesWithBadText:
    """Fails to be pickled, with an exception that acts when its text is wanted."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> NoReturn:
        raise_unspeakable(self.how)


class LoadsWithBadText(PicklesWithBadText):
    """Fails to be loaded, with such an exception."""

    def __reduce__(self) -> Any:
        return raise_unspeakable, (self.how,)


class ActsInTransit(Exception):
    """An exception that acts when it is pickled, or loaded."""

    def __init__(self, when: str, how: str) -> None:
        super().__init__("in transit")
        self.when, self.how = when, how

    def __reduce__(self) -> Any:
        if self.when == "in pickle":
            act(self.how)
        return act, (self.how,)


def raise_acting(when: str, how: str) -> NoReturn:
    """Raise it."""
    raise ActsInTransit(when, how)


class RefusesAttributes(Exception):
    """An exception that lets nobody set anything on it."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise RuntimeError("hands off")

    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError("hands off")


def raise_refusing() -> NoReturn:
    """Raise it."""
    raise RefusesAttributes


class OddNew(Exception):
    """An exception whose ``__new__`` wants what nobody knows of."""

    def __new__(cls, *, secret: int) -> Self:
        return super().__new__(cls, secret)

    def __init__(self, *, secret: int) -> None:
        super().__init__(secret)


def raise_odd_new() -> NoReturn:
    """Raise it."""
    raise OddNew(secret=3)


def raise_with(how: str) -> NoReturn:
    """Raise an ordinary exception with something odd about it."""
    error: Any = ValueError("odd")
    if how == "a cycle of causes":
        error.__cause__ = KeyError("other")
        error.__cause__.__cause__ = error
        raise error
    if how == "itself as its context":
        error.__context__ = error
        error.__cause__ = error
    elif how == "notes that are none":
        error.__notes__ = 3
    elif how == "notes of another kind":
        error.__notes__ = [3, None, ActsInRepr("exits"), "good"]
    elif how == "a huge text":
        error.args = ("x" * (8 << 20),)
    elif how == "huge notes":
        error.__notes__ = ["x" * (4 << 20)] * 2
    elif how == "an argument that can't be shown":
        error.args = (ActsInRepr("exits"),)
    elif how == "an argument that can't be loaded":
        error.args = (ActsInLoad("exits"),)
    elif how == "an unpicklable attribute":
        error.lock = __import__("threading").Lock()
    elif how == "ten thousand causes":
        for number in range(10_000):
            outer = ValueError("odd")
            outer.__cause__ = KeyError(number)
            outer.__cause__.__cause__ = error
            error = outer
    raise error


def raise_group(count: int, depth: int) -> NoReturn:
    """Raise a group with many members, nested deeply."""
    error: Any = ExceptionGroup("many", [ValueError(number) for number in range(count)])
    for level in range(depth):
        error = ExceptionGroup(f"level {level}", [error])
    raise error


def raise_base_group() -> NoReturn:
    """Raise a group with a member that would end the program."""
    raise BaseExceptionGroup("mixed", [ValueError("one"), SystemExit(2), KeyboardInterrupt()])


def make_nameless_error() -> Any:
    """Raise an exception whose class has no name that can be asked for."""
    raise HostileMeta("NamelessError", (Exception,), {})("nameless")


def refuse_if(value: object) -> object:
    """Raise what refuses attributes, if the value is true."""
    if value:
        raise_refusing()
    return value
