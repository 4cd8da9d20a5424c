"""Whether a value is settled: nobody can change it any more, or tell that it is pickled later.

That is so of a number, of a text, and of a list that a function made and gave
away: who alone refers to an object is told by its count of references.  Where
in doubt a value is not settled, which costs time and nothing else.
"""

from __future__ import annotations

from _weakref import getweakrefcount
from sys import getrefcount

from offloop.wire.byvalue import type_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: Classes of the standard library whose objects never change, by module.
CONSTANT = {
    "builtins": ("bool", "bytes", "complex", "range"),
    "datetime": ("date", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "uuid": ("UUID",),
    "zoneinfo": ("ZoneInfo",),
}
#: Those that may hold a time zone, which can be anybody's.
ZONED = ("datetime", "time")
#: What a container of any length may be made of.
ATOMS = frozenset({type(None), bool, bytes, float, int, str})
#: Parts of a container that are looked at, and how deep.  A look takes about as long as pickling.
MOST_PARTS = 32
DEPTH = 3
#: How many classes are remembered.
MOST_KINDS = 256

_OTHER, _CONSTANT, _ZONED, _ARRAY = range(4)
_kinds: dict[type[object], int] = {}


def _count_once(values: Iterable[object]) -> int:
    held = 0
    for value in values:
        held = getrefcount(value)
    return held


#: What `getrefcount` says, in the midst of a loop, of an object that is nowhere but in the loop's variable;
#: and of one that is also in what is looped over.  A debugger may add to it: such a one is not believed.
ALONE = min(_count_once(map(list, ((),))), 2)
WITHIN = min(_count_once([[]]), 3)


def is_settled(value: Any, is_ours: bool, depth: int = DEPTH) -> bool:
    """Whether a value is settled.

    Args:
        value: any object.
        is_ours: whether nobody refers to it but who asks.
        depth: how many containers within each other are looked into.
    """
    kind = type_of(value)
    if kind is str or kind is int or kind is float:
        return True
    if kind is list or kind is dict or kind is set:
        if not is_ours or (kind is set and getweakrefcount(value)):
            return False
    elif kind is not tuple and kind is not frozenset:
        return is_ours if kind is bytearray else _is_settled_kind(kind, value, is_ours)
    if kind is dict and not _are_atoms(value):
        return False
    parts: Iterable[object] = value.values() if kind is dict else value
    if _are_atoms(parts):
        return True
    if not depth or len(value) > MOST_PARTS:
        return False
    for part in parts:
        kind = type(part)
        if kind is str or kind is int or kind is float or part is None:
            continue
        held = getrefcount(part)
        if not is_settled(part, is_ours and held <= WITHIN, depth - 1):
            return False
    return True


def _are_atoms(values: Iterable[object]) -> bool:
    try:
        return ATOMS.issuperset(map(type, values))
    except TypeError:  # a metaclass may leave its classes unhashable
        return False


def _is_settled_kind(kind: type[object], value: Any, is_ours: bool) -> bool:
    known = _kind_of(kind)
    if known == _ARRAY:
        return is_ours and not getweakrefcount(value) and _is_own(value)
    if known == _ZONED:
        return value.tzinfo is None or _kind_of(type_of(value.tzinfo)) == _CONSTANT
    return known == _CONSTANT


def _is_own(array: Any) -> bool:
    """Whether a NumPy array has its memory, and what it is made of, to itself."""
    kind = array.dtype
    return bool(array.base is None and array.flags.owndata and kind.names is None and not kind.hasobject)


def _kind_of(kind: type[object]) -> int:
    try:
        known = _kinds.get(kind)
        if known is None:
            if len(_kinds) >= MOST_KINDS:
                _kinds.clear()
            known = _kinds[kind] = _find_out(kind)
    except Exception:  # a metaclass may leave its classes unhashable, and nameless
        return _OTHER
    return known


def _find_out(kind: type[object]) -> int:
    module, name = kind.__module__, kind.__name__
    if module == "numpy":
        if name == "ndarray":
            return _ARRAY
        bases = {base.__name__ for base in kind.__mro__}
        is_constant = "generic" in bases and not bases & {"void", "object_"}
    elif module == "datetime" and name in ZONED:
        return _ZONED
    else:
        is_constant = kind is type(None) or name in CONSTANT.get(module, ())
    return _CONSTANT if is_constant else _OTHER
