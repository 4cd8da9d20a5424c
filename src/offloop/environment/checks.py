"""Which arguments an environment takes."""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

INFINITY = float("inf")


def check_key(key: object) -> str:
    """Return ``key``; ``TypeError`` if it is no ``str``."""
    if not isinstance(key, str):
        raise TypeError(f"an environment's keys are str, not {type(key).__name__}")
    return key


def check_options(ttl: object, on_delete: object, factory: object = callable) -> float | None:
    """Return the TTL in seconds, or None for unlimited.

    Raises:
        TypeError: ``ttl`` is no number, or ``on_delete`` is neither None nor
            callable, or ``factory`` is not callable.
        ValueError: ``ttl`` is negative or NaN.
    """
    if on_delete is not None and not callable(on_delete):
        raise TypeError(f"on_delete must be callable, not {type(on_delete).__name__}")
    if not callable(factory):
        raise TypeError(f"factory must be callable, not {type(factory).__name__}")
    return None if ttl is None else _seconds(ttl)


def _seconds(ttl: Any) -> float | None:
    if not _is_real(ttl):
        raise TypeError(f"ttl must be a number of seconds, not {type(ttl).__name__}")
    if not ttl >= 0:  # NaN compares as false
        raise ValueError(f"ttl must not be negative or NaN: {ttl}")
    try:
        seconds = float(ttl)
    except OverflowError:  # an int beyond every float
        return None
    return None if seconds in {0.0, INFINITY} else seconds


def _is_real(number: object) -> bool:
    if isinstance(number, bool):
        return False
    if isinstance(number, (int, float)):
        return True
    from numbers import Real  # numpy's and fractions' numbers, which are rare here

    return isinstance(number, Real)
