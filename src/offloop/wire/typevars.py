"""Type variables, new types and type aliases: what `typing` makes, and pickles by its name alone.

Where the receiver can import the module that has one, it goes by that name.  Any
other goes as the arguments that made it, under a *token*: the same one arrives
as the same object each time, as a class and what uses it may come apart.  An
alias has none, as aliases can't be weakly referenced: each is a copy.  What is made
from itself can't be had that way: of an alias its name arrives, which is enough for
annotations, and a type variable without what it is bound by.

Only what meets one loads this module, in a worker too.
"""

from __future__ import annotations

import sys
from weakref import WeakKeyDictionary, WeakValueDictionary

from offloop.wire.byvalue import is_registered, type_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from offloop.wire.pickling import TablePickler

_tokens: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_by_token: WeakValueDictionary[str, Any] = WeakValueDictionary()

#: What they are made from, by the attributes that have it: by position where it is there at all …
_PARTS = ("__supertype__", "__value__")
#: … and by the same name where it is set; one of them beginning with Python 3.12, whatever backports say.
_OPTIONS = ("bound", "covariant", "contravariant", "type_params")
if sys.version_info >= (3, 12):
    _OPTIONS += ("infer_variance",)
#: What these are where nobody has set them, by identity: a bound may be a class that is equal to anything.
_UNSET = (None, False, ())


def reduce(pickler: TablePickler, made: Any) -> Any:
    """By its name, or as what makes one like it."""
    name: str = made.__name__
    home: str = made.__module__
    is_there = getattr(sys.modules.get(home), name, None) is made
    if is_there and pickler.importable(home) and not is_registered(home):
        return getattr, (sys.modules[home], name)
    if id(made) in pickler.classes:  # what it is made from refers to it
        return _again(made)
    pickler.classes.add(id(made))
    pickler.dirty = True
    parts = [getattr(made, part) for part in _PARTS if hasattr(made, part)]
    options = {key: getattr(made, f"__{key}__", None) for key in _OPTIONS}
    options = {key: value for key, value in options.items() if not any(value is each for each in _UNSET)}
    if sys.version_info >= (3, 13) and getattr(made, "has_default", bool)():
        options["default"] = made.__default__
    args = (name, *getattr(made, "__constraints__", ()), *parts)
    return make, (_token_of(made), made.__module__, type_of(made), args, options)


def _again(made: Any) -> Any:
    """What is to stand for it within itself; pickle then has that outside as well."""
    name: str = made.__name__
    if hasattr(made, "__value__"):
        from typing import ForwardRef

        return ForwardRef, (name,)
    return make, (_token_of(made), made.__module__, type_of(made), (name,), {})


def _token_of(made: Any) -> str:
    try:
        token = _tokens.get(made)
    except TypeError:  # it can't be weakly referenced
        return ""
    if token is None:
        from uuid import uuid4

        token = uuid4().hex
        _tokens[made], _by_token[token] = token, made
    return token


def make(token: str, module_name: str, kind: type[Any], args: Any, options: dict[str, Any]) -> Any:
    """The one with a token, made if there is none yet; what pickles call.

    Args:
        token: what was said of it before; nothing if it is not to be found again.
        module_name: the module that it is from.
        kind: what it is.
        args: what that is made from.
        options: the same, by keyword.
    """
    known = _by_token.get(token)
    if known is not None:
        return known
    made = kind(*args, **options)
    try:
        made.__module__ = module_name
    except AttributeError:
        pass  # an alias is from where it was made
    if token:
        made = _by_token.setdefault(token, made)
        _tokens[made] = token
    return made
