"""Refusing what is no task, and options that no task can have."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf


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


def check_options(timeout: object, priority: object, retries: object, key: Hashable) -> None:
    """Refuse bad options of `Worker.enqueue`."""
    if timeout is not None:
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
            raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0, not {timeout}")
    check_int("priority", priority)
    check_int("retries", retries, 0)
    hash(key)
