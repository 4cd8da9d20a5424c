"""Functions for ``offloop map`` whose workers run in the test's own process."""

from __future__ import annotations

from typing import Any


def double(text: str) -> int:
    return 2 * int(text)


def echo(*args: Any, **kwargs: Any) -> Any:
    return kwargs or args[0]


def shout(text: str) -> str:
    print("shouting", text)
    return text.upper()


async def later(text: str) -> str:
    return text


def letters(text: str) -> Any:
    yield from text


async def later_letters(text: str) -> Any:
    for letter in text:
        yield letter


def because_of(kind: str) -> None:
    try:
        raise KeyError(kind)
    except KeyError as error:
        if kind == "context":
            raise RuntimeError("wrapped")  # noqa: B904 - this is what is tried
        raise RuntimeError("wrapped") from (error if kind == "cause" else None)
