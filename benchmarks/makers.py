"""What the maps of `mapresults` call: light functions that return this and that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass
class Record:
    """A record."""

    index: int
    share: float


class Pair(NamedTuple):
    """A named tuple."""

    index: int
    text: str


def text(item: int) -> str:
    """A short text."""
    return f"item {item}"


def pair(item: int) -> tuple[int, int]:
    """A tuple of two numbers."""
    return item, item + 1


def both(item: int) -> list[int]:
    """A list of two numbers."""
    return [item, item]


def row(item: int) -> dict[str, Any]:
    """A dictionary of a number and a text."""
    return {"index": item, "text": "a text"}


def tree(item: int) -> dict[str, Any]:
    """Containers within each other."""
    return {"index": [item, item], "rest": {"pair": (item, 1.5)}}


def record(item: int) -> Record:
    """An object of a dataclass."""
    return Record(item, 0.5)


def named(item: int) -> Pair:
    """A named tuple."""
    return Pair(item, "a text")


def words(item: str) -> int:
    """The number of words of a text."""
    return len(item.split())
