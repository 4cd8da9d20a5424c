"""Taking an exception apart, and putting it together again without running its ``__init__``.

Pickle rebuilds an exception by calling ``cls(*args)``, which fails for every
class whose ``__init__`` takes something else than it hands on to
``super().__init__``, and forgets what is kept in ``__slots__``.  So class,
arguments, built-in fields, slots and attributes are read one by one, and set
on a bare object of the same class.

Attributes of the interpreter's own are read and written through its
descriptors, past any override in the exception's class: a frozen dataclass,
for one, refuses a plain assignment.
"""

from __future__ import annotations

import copyreg
from functools import cache
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not one of the interpreter's static types
# Carried otherwise, or, as the object that an AttributeError is about, left
# behind as CPython's own pickling does: it may be anything, of any size.
_NOT_FIELDS = (
    (BaseException, "args"),
    (BaseExceptionGroup, "message"),
    (BaseExceptionGroup, "exceptions"),
    (AttributeError, "obj"),
)


def stored(error: BaseException, name: str, owner: type = BaseException) -> Any:
    """The interpreter's own attribute `name`, whatever the exception's class makes of it."""
    return vars(owner)[name].__get__(error, type(error))


def store(error: BaseException, name: str, value: object) -> None:
    """Set the interpreter's own attribute `name`."""
    vars(BaseException)[name].__set__(error, value)


def add_note(error: BaseException, text: str) -> None:
    """``error.add_note(text)``, whatever the exception's class makes of it."""
    notes: list[Any] | None = stored(error, "__dict__").setdefault("__notes__", [])
    if type(notes) is list:  # anyone may set it to anything
        notes.append(text)


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """The members of an exception group, or nothing."""
    if not issubclass(type(error), BaseExceptionGroup):
        return ()
    members: tuple[BaseException, ...] = stored(error, "exceptions", BaseExceptionGroup)
    return members


def pickles_itself(cls: type) -> bool:
    """Whether only the class's own code, in Python or C, knows how to pickle its exceptions."""
    return (
        _layout(cls) is None
        or cls in copyreg.dispatch_table
        or _overrides(cls, "__reduce__")
        or _overrides(cls, "__reduce_ex__")
    )


def take_apart(error: BaseException) -> tuple[Any, ...]:
    """Class, arguments, fields, attributes and, of a group, its message, for `put_together`.

    A group's members are taken out of its arguments, and their places noted:
    they travel by themselves, each with its traceback.
    """
    cls = type(error)
    if _overrides(cls, "__getstate__"):
        own: Any = error
        state = own.__getstate__()
    else:
        state = dict(stored(error, "__dict__")) or None
    args = stored(error, "args")
    members = members_of(error)
    if not members:
        return cls, args, _fields(error), state, None
    places = {i: type(arg) is list for i, arg in enumerate(args) if _holds(arg, members)}
    args = tuple(None if i in places else arg for i, arg in enumerate(args))
    return cls, args, _fields(error), state, (stored(error, "message", BaseExceptionGroup), places)


def put_together(parts: Any, members: list[BaseException]) -> BaseException:
    """Undo `take_apart`, running no code of the exception's class but its ``__setstate__``.

    Args:
        parts: what `take_apart` returned.
        members: the members of a group, made anew.

    Raises:
        TypeError: a group cannot have these members.
        Exception: whatever ``__setstate__`` raises.
    """
    cls, args, fields, state, group = parts
    layout: Any = _layout(cls)
    if group is None:
        error: Any = layout.__new__(cls)
    else:
        message, places = group
        error = layout.__new__(cls, message, members)
        held = {i: list(members) if is_list else tuple(members) for i, is_list in places.items()}
        args = tuple(held.get(i, arg) for i, arg in enumerate(args))
    store(error, "args", args)
    for _, name, descriptor in _descriptors(cls):
        if name in fields:
            descriptor.__set__(error, fields.pop(name))
    if state is not None and (_overrides(cls, "__setstate__") or not isinstance(state, dict)):
        error.__setstate__(state)
    elif state is not None:
        stored(error, "__dict__").update(state)
    made: BaseException = error
    return made


def _layout(cls: type) -> type | None:
    """The built-in class whose memory layout `cls` has, or None where a C extension laid it out."""
    while cls.__flags__ & _HEAP_TYPE:
        if isinstance(vars(cls).get("__new__"), BuiltinFunctionType) or cls.__base__ is None:
            return None
        cls = cls.__base__
    return cls if cls.__module__ == "builtins" else None


def _overrides(cls: type, name: str) -> bool:
    """Whether a method is other than the interpreter's own."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    return owner is not None and (owner.__module__ != "builtins" or bool(owner.__flags__ & _HEAP_TYPE))


def _holds(arg: Any, members: Sequence[BaseException]) -> bool:
    if type(arg) not in (list, tuple) or len(arg) != len(members):
        return False
    return all(one is other for one, other in zip(arg, members, strict=True))


def _fields(error: BaseException) -> dict[str, Any]:
    """What is kept outside ``__dict__``: an OSError's errno, an ImportError's name, ``__slots__``."""
    values: dict[str, Any] = {}
    for owner, name, descriptor in _descriptors(type(error)):
        try:
            value = descriptor.__get__(error, type(error))
        except (AttributeError, TypeError):  # not set
            continue
        if value is not None or owner.__flags__ & _HEAP_TYPE or _is_set_to_none(error, owner, name):
            values.setdefault(name, value)
    return values


def _is_set_to_none(error: BaseException, owner: type, name: str) -> bool:
    """Whether a built-in's field holds None, where an unset one reads as None too.

    Only ``OSError(None, "text")`` shows the difference, in its message, and it
    sets these two fields if, and only if, it gets two to five arguments.
    """
    return owner is OSError and name in ("errno", "strerror") and 2 <= len(stored(error, "args")) <= 5


def _descriptors(cls: type) -> Iterator[tuple[type, str, Any]]:
    for owner in cls.__mro__:
        if owner.__flags__ & _HEAP_TYPE:
            yield from _own_descriptors(owner)
        else:
            yield from _of_static(owner)


def _own_descriptors(owner: type) -> Iterator[tuple[type, str, Any]]:
    for name, value in vars(owner).items():
        special = name.startswith("__") and name.endswith("__")
        field = isinstance(value, (MemberDescriptorType, GetSetDescriptorType))
        if field and not special and (owner, name) not in _NOT_FIELDS:
            yield owner, name, value


@cache
def _of_static(owner: type) -> tuple[tuple[type, str, Any], ...]:
    """The same for one of the interpreter's static types, which live for ever and do not change."""
    return tuple(_own_descriptors(owner))
