"""Refusing what is no task, and options that no task can have."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeGuard, cast

if TYPE_CHECKING:
    from numbers import Real


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


def as_int(name: str, value: object, least: float = -inf) -> int:
    """The same for what may be a whole number of another library's, such as NumPy's; returns it as an int."""
    if type(value) is not int and not isinstance(value, bool):
        try:
            value = index(cast("SupportsIndex", value))
        except TypeError:
            pass
    return check_int(name, value, least)


def as_int_or_none(name: str, value: object, least: float = -inf) -> int | None:
    """The same, where None may be given."""
    return None if value is None else as_int(name, value, least)


def check_seconds(name: str, value: object, *, or_zero: bool = False) -> float:
    """Refuse what is no number of seconds above 0; returns it as a float, which may be infinite.

    Args:
        name: what it is called, for the message.
        value: a number.
        or_zero: whether it may be 0.

    Raises:
        TypeError: it is no number; ValueError: it is too low, or NaN.
    """
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or _is_real(value)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:  # an int beyond every float
        seconds = inf if value > 0 else -inf  # type: ignore[operator]  # of any real numbers it may be asked
    if or_zero and not seconds >= 0:
        raise ValueError(f"{name} must not be negative, not {value}")
    if not or_zero and not seconds > 0:
        raise ValueError(f"{name} must be above 0, not {value}")
    return seconds


def _is_real(value: object) -> TypeGuard[Real]:
    from numbers import Real  # takes a millisecond to load

    return isinstance(value, Real)


def check_options(timeout: object, priority: object, retries: object, key: Hashable) -> dict[str, Any]:
    """Refuse bad options of `Worker.enqueue`; returns them by name."""
    options = {
        "timeout": None if timeout is None else check_seconds("timeout", timeout),
        "priority": as_int("priority", priority),
        "retries": as_int("retries", retries, 0),
        "key": key,
    }
    hash(key)
    return options
