"""Whether a value is settled: nobody can change it any more, or tell that it is pickled later.

That is so of a number, of a text, and of a list that a function made and gave
away: who alone refers to an object is told by its count of references.  Where
in doubt a value is not settled, which costs time and nothing else.
"""

from __future__ import annotations

from _weakref import getweakrefcount
from gc import get_referents
from sys import getrefcount

from offloop.wire.byvalue import type_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any, TypeAlias

    #: Whether an object of some class is settled; the arguments are those of `is_settled`.
    Test: TypeAlias = "Callable[[Any, bool, int], bool]"

#: Classes of the standard library whose objects never change, by module.
CONSTANT = {
    "datetime": ("date", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    **dict.fromkeys(
        ("pathlib", "pathlib._local"), ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
    ),
    "uuid": ("UUID",),
    "zoneinfo": ("ZoneInfo",),
}
#: Those that may hold a time zone, which can be anybody's.
ZONED = ("datetime", "time")
#: What a container of any length may be made of.
ATOMS = frozenset({type(None), bool, bytes, float, int, str})
#: Those that are equal to what they become when they are pickled and loaded, as NaN is not.
KEYS = ATOMS - {float}
_all_atoms = ATOMS.issuperset
#: Parts of a container that are looked at, and how deep.  A look takes about as long as pickling.
MOST_PARTS = 32
DEPTH = 3
#: Parts of one that is made of atoms only.  A look takes 12 ns for each of them, and pickling 6; to pickle
#: a container by itself takes some 2 µs more.
MOST_ATOMS = 128
#: How many classes are remembered.
MOST_KINDS = 256


def _count_once(values: Iterable[object]) -> int:
    held = 0
    for value in values:
        held = getrefcount(value)
    return held


def _count_attributes(value: Any) -> int:
    state = value.__dict__
    return getrefcount(state)


class _Empty: ...


#: What `getrefcount` says, in the midst of a loop, of an object that is nowhere but in the loop's variable;
#: of one that is also in what is looped over; and of the attributes of an object that nobody else refers to.
#: A debugger may add to it: such a one is not believed.
ALONE = min(_count_once(map(list, ((),))), 2)
WITHIN = min(_count_once([[]]), 3)
ATTRIBUTES = min(_count_attributes(_Empty()), 3)


def is_flat(value: Any, kind: type[object], is_ours: bool) -> bool:
    """Whether a tuple, list or dictionary is settled, and made of atoms: pickling and loading it can't fail.

    Args:
        value: any object.
        kind: its class.
        is_ours: whether nobody refers to it but who asks.
    """
    if kind is tuple or (is_ours and kind is list):
        return _are_atoms(value)
    # Of a dictionary its values; and its keys, unless they all are texts.
    return is_ours and kind is dict and _are_atoms(get_referents(value))


def _are_atoms(values: Collection[object]) -> bool:
    """Whether they are, and few enough for a look at each to be worth it."""
    try:
        return len(values) <= MOST_ATOMS and _all_atoms(map(type, values))
    except Exception:  # a metaclass may leave its classes unhashable
        return False


def is_settled(value: Any, is_ours: bool, depth: int = DEPTH) -> bool:
    """Whether a value is settled.

    What is made of objects of the user's classes is not looked into: with others of its class
    it would fail if one of these can't be loaded.

    Args:
        value: any object.
        is_ours: whether nobody refers to it but who asks.
        depth: how many containers within each other are looked into.
    """
    kind = type_of(value)
    try:
        test = _tests.get(kind) or _test_for(kind)
    except Exception:  # a metaclass may leave its classes unhashable, and nameless
        return False
    return test(value, is_ours, depth)


def forget_classes() -> None:
    """Forget what was found out of classes: they may change, and are not to be kept alive."""
    if len(_tests) > len(_BUILT_IN):
        _tests.clear()
        _tests.update(_BUILT_IN)


def _are_settled(parts: Collection[Any], is_ours: bool, depth: int) -> bool:
    """Whether all parts are settled of something that is looked into; the whole is ``is_ours``."""
    if _are_atoms(parts):
        return True
    if not depth or len(parts) > MOST_PARTS:
        return False
    for part in parts:
        kind = type_of(part)
        if kind is str or kind is int or kind is float or part is None:
            continue
        held = getrefcount(part)
        if not is_settled(part, is_ours and held <= WITHIN, depth - 1):
            return False
    return True


# -- tests: whether an object of some class is settled ------------------------


def _always(_value: Any, _is_ours: bool, _depth: int) -> bool:
    return True


def _never(_value: Any, _is_ours: bool, _depth: int) -> bool:
    return False


def _is_bytearray_settled(_value: Any, is_ours: bool, _depth: int) -> bool:
    return is_ours


def _is_list_settled(value: Any, is_ours: bool, depth: int) -> bool:
    return is_ours and _are_settled(value, is_ours, depth)


def _is_set_settled(value: Any, is_ours: bool, depth: int) -> bool:
    return is_ours and not getweakrefcount(value) and _are_settled(value, is_ours, depth)


def _is_frozenset_settled(value: Any, is_ours: bool, depth: int) -> bool:
    return _are_settled(value, is_ours and not getweakrefcount(value), depth)


def _is_dict_settled(value: Any, is_ours: bool, depth: int) -> bool:
    return is_ours and _are_atoms(value) and _are_settled(value.values(), is_ours, depth)


def _is_array_settled(value: Any, is_ours: bool, _depth: int) -> bool:
    """Whether a NumPy array has its memory, and what it is made of, to itself."""
    if not is_ours or getweakrefcount(value) or value.base is not None or not value.flags.owndata:
        return False
    kind = value.dtype
    return kind.names is None and not kind.hasobject and kind.metadata is None


def _is_time_settled(value: Any, _is_ours: bool, _depth: int) -> bool:
    return value.tzinfo is None or is_settled(value.tzinfo, False, 0)


def _is_object_settled(value: Any, is_ours: bool, depth: int) -> bool:
    if depth < DEPTH or not is_ours or getweakrefcount(value):
        return False
    state = value.__dict__
    return type(state) is dict and getrefcount(state) <= ATTRIBUTES and _is_dict_settled(state, True, depth)


def _is_named_tuple_settled(value: Any, is_ours: bool, depth: int) -> bool:
    return depth == DEPTH and _are_settled(value, is_ours, depth)


def _is_member_settled(value: Any, _is_ours: bool, depth: int) -> bool:
    """Whether a member is pickled as a value by which it can be found; who refers to it does not matter."""
    key, kind = value._value_, type_of(value)
    return depth == DEPTH and type(key) in KEYS and kind._value2member_map_.get(key) is value


def _test_of_slots(parts_of: Callable[[Any], tuple[Any, ...]]) -> Test:
    def are_slots_settled(value: Any, is_ours: bool, depth: int) -> bool:
        if depth < DEPTH or not is_ours or getweakrefcount(value):
            return False
        try:
            parts = parts_of(value)
        except AttributeError:
            return False
        return _are_settled(parts, False, depth)

    return are_slots_settled


_BUILT_IN: dict[type[object], Test] = {
    tuple: _are_settled,
    list: _is_list_settled,
    dict: _is_dict_settled,
    set: _is_set_settled,
    frozenset: _is_frozenset_settled,
    bytearray: _is_bytearray_settled,
    **dict.fromkeys((*ATOMS, complex, range), _always),
}
_tests = _BUILT_IN.copy()


def _test_for(kind: type[object]) -> Test:
    if len(_tests) >= MOST_KINDS:
        forget_classes()
    test = _tests[kind] = _find_test(kind)
    return test


def _find_test(kind: type[object]) -> Test:
    module, name = kind.__module__, kind.__name__
    if name in CONSTANT.get(module, ()):
        return _always
    if module == "datetime" and name in ZONED:
        return _is_time_settled
    if module == "numpy":
        if name == "ndarray":
            return _is_array_settled
        bases = {base.__name__ for base in kind.__mro__}
        return _always if "generic" in bases and not bases & {"void", "object_"} else _never
    return _find_test_of_class(kind)


def _find_test_of_class(kind: type[object]) -> Test:
    from offloop.child import plain

    if plain.is_plain(kind):
        return _is_object_settled
    if plain.is_named_tuple(kind):
        return _is_named_tuple_settled
    if plain.is_enumeration(kind):
        return _is_member_settled
    parts_of = plain.slots_of(kind)
    return _never if parts_of is None else _test_of_slots(parts_of)
