"""Which context variable is which, in every process.

A variable is known elsewhere in one of two ways.  Where it is an attribute of a
module that the other side can import, it goes by that name: each process has
its own.  Any other one (of ``__main__``, of a notebook, of a closure) gets a
*token* when it is first pickled, and each process makes one variable for it.

Variables can't be weakly referenced, and Python itself does not free one that
was ever set: so those met here are kept.

This module loads in workers: only light imports.
"""

from __future__ import annotations

import sys
from contextvars import Context, ContextVar
from types import ModuleType

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Variable: TypeAlias = ContextVar[Any]
    #: How another process finds a variable: its token, or each module and attribute that hold it.
    Key: TypeAlias = str | tuple[tuple[str, str], ...]

#: How many variables are remembered not to be any module's attribute.
MOST_MISSING = 16

#: What is done with a variable's value in the context of a task that it came with; usually it is set.
arrivals: dict[Variable, Callable[[Any], object]] = {}
_homes: dict[Variable, list[tuple[str, str]]] = {}  # where each was found
_missing: set[Variable] = set()
_modules_seen = 0  # how many there were at the last look
#: Of each variable that was ever pickled other than by name, here or where it came from.
tokens: dict[Variable, str] = {}
_by_token: dict[str, Variable] = {}


def key_of(variable: Variable, importable: Callable[[str], bool]) -> Key | None:
    """How another process finds a variable.

    Args:
        variable: a context variable.
        importable: whether the other side can import a module by this name.

    Returns:
        None if it can't.
    """
    return tokens.get(variable) or homes_of(variable, importable) or None


def homes_of(variable: Variable, importable: Callable[[str], bool]) -> tuple[tuple[str, str], ...]:
    """The modules and attributes that hold a variable, where the other side can import the module.

    All of them, as there is no telling which module made it: the other side may
    have loaded that one, and not those that only import the variable from it.
    """
    found = _homes.get(variable) or _look_for(variable)
    return tuple(home for home in found if in_module(*home) is variable and importable(home[0]))


def _look_for(variable: Variable) -> list[tuple[str, str]]:
    """Look for a variable in all modules, unless that is known, or likely, to be in vain."""
    if variable in _missing:
        return []
    if len(_missing) >= MOST_MISSING:
        if _modules_seen == len(sys.modules):
            return []  # a program that makes variables all the time would have a look for each
        _missing.clear()
    _look_around()
    if variable not in _homes:
        _missing.add(variable)
    return _homes.get(variable, [])


def _look_around() -> None:
    """Note where all variables are; 5 µs a module, so some milliseconds in a large program."""
    global _modules_seen
    _modules_seen = len(sys.modules)
    _homes.clear()
    for module_name, module in list(sys.modules.items()):
        for name, value in list(namespace_of(module).items()):
            if _is_variable(value):
                _homes.setdefault(value, []).append((module_name, name))


def in_module(module_name: str, name: str) -> Variable | None:
    """The variable that is a loaded module's attribute, if there is one; nothing is imported."""
    value = namespace_of(sys.modules.get(module_name)).get(name)
    return value if _is_variable(value) else None


def _is_variable(value: Any) -> bool:
    return type(value) is ContextVar


def namespace_of(module: object) -> dict[str, Any]:
    """A module's attributes, past a class that would load it when it is looked at."""
    if not issubclass(type(module), ModuleType):  # anything may be in sys.modules
        return {}
    namespace: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return namespace


def token_of(variable: Variable) -> str:
    """The token of a variable, made if it has none."""
    token = tokens.get(variable)
    if token is None:
        from uuid import uuid4

        token = tokens.setdefault(variable, uuid4().hex)
        _by_token[token] = variable
    return token


def default_of(variable: Variable) -> tuple[Any, ...]:
    """A variable's default, or nothing if it has none."""
    try:
        return (Context().run(variable.get),)
    except LookupError:
        return ()


def find_variable(token: str, name: str, *default: Any) -> Variable:
    """The variable with a token, made if there is none yet; what pickles call.

    Args:
        token: what `token_of` said of it.
        name: its name.
        default: its default, if it has one.
    """
    variable = _by_token.get(token)
    if variable is None:
        made: Variable = ContextVar(name, default=default[0]) if default else ContextVar(name)
        variable = _by_token.setdefault(token, made)
        tokens[variable] = token
    return variable


def _import(module_name: str) -> None:
    """Import a module of ours; what it needs may not be there."""
    try:
        __import__(module_name)
    except ImportError:
        pass


def known_by(key: Key) -> Variable | None:
    """The variable that a key stands for, if it is there: nothing is made, only modules of ours imported."""
    if isinstance(key, str):
        return _by_token.get(key)
    for home in key:
        if home[0] not in sys.modules and home[0].startswith("offloop."):
            _import(home[0])
        variable = in_module(*home)
        if variable is not None:
            return variable
    return None
