"""Results as JSON, whatever they are."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
from collections.abc import Callable
from typing import Any, cast

_NEAREST: list[tuple[type[Any], Callable[[Any], Any]]] = [
    (type, repr),
    (set, list),
    (frozenset, list),
    (os.PathLike, os.fsdecode),
    (datetime.date, lambda value: value.isoformat()),
    (datetime.time, lambda value: value.isoformat()),
]


def to_json(value: object) -> str:
    """One line of JSON.

    What JSON has no form for becomes what is nearest: dataclasses objects, sets
    and NumPy's arrays lists, NumPy's numbers numbers, dates and paths strings.
    Anything else becomes the string of its ``repr``, in its own place: NaN and
    infinity, a key, a value within itself, a dict of which two keys would become
    the same.  Only what is nested too deeply is the string of its ``repr`` as a
    whole.
    """
    try:
        return json.dumps(value, default=_nearest, allow_nan=False)
    except Exception:  # odd keys; NaN, cycles, endless integers
        pass
    try:
        return json.dumps(_plain(value, set()))
    except Exception:  # great depth; and the user's class may do anything
        return json.dumps(_repr(value))


def _plain(value: Any, around: set[int]) -> Any:
    """The same as JSON can express it.

    Args:
        value: any value.
        around: the identities of what it lies within.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return _plain_int(value)
    if isinstance(value, float):  # NumPy's are floats whose own repr says more
        return value if math.isfinite(value) else float.__repr__(value)
    here = id(value)
    if here in around:
        return _repr(value)
    around.add(here)
    try:
        if isinstance(value, dict):
            return _plain_dict(cast("dict[object, Any]", value), around)
        if isinstance(value, (list, tuple)):
            return [_plain(each, around) for each in cast("list[Any]", value)]
        return _plain(_nearest(value), around)
    finally:
        around.remove(here)


def _plain_int(value: int) -> int | str:
    try:
        int.__repr__(value)
    except ValueError:  # Python writes some thousand decimal digits at the most
        return hex(value)
    return value


def _plain_dict(value: dict[object, Any], around: set[int]) -> dict[str, Any] | str:
    made: dict[str, Any] = {}
    for key, item in value.items():
        name = _name(key, around)
        if name in made:  # two keys stay two
            return _repr(value)
        made[name] = _plain(item, around)
    return made


def _name(key: object, around: set[int]) -> str:
    """What JSON shall write for a key."""
    name = _plain(key, around)
    if isinstance(name, (dict, list)):
        return _repr(key)
    return name if isinstance(name, str) else json.dumps(name)


def _nearest(value: Any) -> Any:
    try:
        for kind, convert in _NEAREST:
            if isinstance(value, kind):
                return convert(value)
        if dataclasses.is_dataclass(value):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if callable(to_list := getattr(value, "tolist", None)):  # of NumPy's arrays and scalars
            return to_list()
    except Exception:  # the user's class may do anything
        pass
    return _repr(value)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)
