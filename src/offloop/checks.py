"""Refusing what is no task, and options that no task can have."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from typing import Any


def check_task(task: object) -> None:
    """Refuse what is no task."""
    if not callable(getattr(task, "run", None)):
        hint = ": a callable is run by submit(fn, ...)" if callable(task) else ""
        raise TypeError(f"a task needs a run(environment) method, which {type(task).__name__} has not{hint}")
    if isinstance(task, type):
        raise TypeError(
            f"a task is an instance, and {task.__name__} is a class: enqueue({task.__name__}(...))"
        )


def check_int(name: str, value: object, least: float = -inf) -> int:
    """Refuse what is no whole number, or too low a one; returns it.

    Raises:
        TypeError: it is no int; ValueError: it is below ``least``.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value


def check_seconds(name: str, value: object, *, or_zero: bool = False) -> float:
    """Refuse what is no number of seconds above 0; returns it as a float, which may be infinite.

    Args:
        name: what it is called, for the message.
        value: a number.
        or_zero: whether it may be 0.

    Raises:
        TypeError: it is no number; ValueError: it is too low, or NaN.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if or_zero and not value >= 0:
        raise ValueError(f"{name} must not be negative, not {value}")
    if not or_zero and not value > 0:
        raise ValueError(f"{name} must be above 0, not {value}")
    try:
        return float(value)
    except OverflowError:  # an int beyond every float
        return inf


def check_options(timeout: object, priority: object, retries: object, key: Hashable) -> dict[str, Any]:
    """Refuse bad options of `Worker.enqueue`; returns them by name."""
    options = {
        "timeout": None if timeout is None else check_seconds("timeout", timeout),
        "priority": check_int("priority", priority),
        "retries": check_int("retries", retries, 0),
        "key": key,
    }
    hash(key)
    return options
