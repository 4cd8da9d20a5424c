"""Results as JSON, whatever they are."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Callable
from typing import Any

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
    Anything else becomes the string of its ``repr``.
    """
    try:
        return json.dumps(value, default=_nearest, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # odd keys, NaN, cycles, great depth
        return json.dumps(_repr(value))


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
