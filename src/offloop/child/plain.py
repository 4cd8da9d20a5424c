"""Which classes have objects whose pickles hold what the objects hold, and nothing more.

Pickling such an object runs no code of its class, so it comes to the same
whenever it is done, as long as the parts are the same.  That is so of
dataclasses and of most other classes, of named tuples, and of the members of
enumerations, unless a class says otherwise by a special method.
"""

from __future__ import annotations

import sys
from copyreg import dispatch_table
from operator import attrgetter
from struct import calcsize
from types import GetSetDescriptorType, MemberDescriptorType

from offloop.wire.byvalue import SPECIAL, type_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: What has a say in how objects are pickled and loaded, or sees when they go.
HOOKS = frozenset(
    {
        *("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__"),
        *("__getattribute__", "__getattr__", "__class__", "__new__", "__setstate__", "__del__"),
    }
)
#: What a named tuple has of these.
OF_NAMED_TUPLES = frozenset({"__new__", "__getnewargs__"})
_POINTER = calcsize("P")


class _Plain:
    """An object with attributes, and no memory beside them."""


def is_plain(kind: type[object]) -> bool:
    """Whether an object of this class is made of its ``__dict__``."""
    return (
        _layout(kind) == _layout(_Plain)
        and not _hooks(kind)
        and all(type_of(own) is GetSetDescriptorType for own in _found(kind, "__dict__"))
        and _is_usual(kind)
    )


def slots_of(kind: type[object]) -> Callable[[Any], tuple[Any, ...]] | None:
    """What gets the parts of an object that is made of its ``__slots__``; None for all others.

    It raises `AttributeError` where a slot is empty.
    """
    names = [
        name for base in kind.__mro__ for name, own in vars(base).items() if type(own) is MemberDescriptorType
    ]
    size = object.__basicsize__ + _POINTER * (len(names) + (kind.__weakrefoffset__ > 0))
    if not names or kind.__dictoffset__ or kind.__itemsize__ or kind.__basicsize__ != size:
        return None
    if any(type_of(_found(kind, name)[0]) is not MemberDescriptorType for name in names):
        return None  # a property is in the way
    hooks = _hooks(kind)
    if hooks - _hooks_of_dataclasses(kind) or (not hooks and _found(kind, "__setattr__")):
        return None
    if not _is_usual(kind):
        return None
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def is_named_tuple(kind: type[object]) -> bool:
    """Whether `collections.namedtuple` made this class."""
    make = vars(kind).get("__getnewargs__")
    return (
        kind.__mro__[1:] == (tuple, object)
        and not kind.__dictoffset__
        and HOOKS & vars(kind).keys() == OF_NAMED_TUPLES
        and getattr(make, "__globals__", None) is vars(sys.modules["collections"])
        and _is_usual(kind)
    )


def is_enumeration(kind: type[object]) -> bool:
    """Whether the objects of this class are members of an enumeration, and pickled as such."""
    enum = sys.modules.get("enum")
    return (
        enum is not None
        and type(kind) is enum.EnumType
        and kind.__reduce_ex__ is enum.Enum.__reduce_ex__
        and _is_usual(kind)
    )


def _layout(kind: type[object]) -> tuple[int, ...]:
    return kind.__basicsize__, kind.__itemsize__, kind.__dictoffset__, kind.__weakrefoffset__


def _found(kind: type[object], name: str) -> list[object]:
    """The attributes of this name, of the class and all that it inherits from."""
    return [vars(base)[name] for base in kind.__mro__[:-1] if name in vars(base)]


def _hooks(kind: type[object]) -> set[str]:
    return {name for base in kind.__mro__[:-1] for name in HOOKS & vars(base).keys()}


def _hooks_of_dataclasses(kind: type[object]) -> set[str]:
    """Those that `dataclasses` gave a class that is frozen and has slots."""
    dataclasses = sys.modules.get("dataclasses")
    given = {
        "__getstate__": getattr(dataclasses, "_dataclass_getstate", None),
        "__setstate__": getattr(dataclasses, "_dataclass_setstate", None),
    }
    return {name for name, own in given.items() if own is not None and _found(kind, name) == [own]}


def _is_usual(kind: type[object]) -> bool:
    """Whether there is no other way to pickle this class, and its objects are not to be awaited."""
    return kind not in dispatch_table and kind not in SPECIAL and not hasattr(kind, "__await__")
