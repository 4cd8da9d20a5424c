"""What a worker will have to import for a task, as far as that can be told before it is sent.

The template imports it before it forks the first workers, while this process
takes apart what will travel.  So the first result is there earlier, and the workers share
what each would have had to itself.  What is missed here costs no more than
before: a worker imports it, and tells; see `offloop.child.modules`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from offloop.child.modules import is_allowed
from offloop.task import CallableTask
from offloop.wire.byvalue import type_of
from offloop.wire.pickling import is_named

if TYPE_CHECKING:
    from offloop.wire.definitions import Definitions

#: What classes that travel by value are made with.
_MAKER = "cloudpickle"
#: So many arguments are looked at for functions that go along.
_MOST = 8


def modules_for(task: Any, importable: Callable[[str], bool]) -> list[str]:
    """Names of modules that a worker needs for a task, of those that may be loaded before a fork.

    Args:
        task: any task.
        importable: whether a worker can import a module by this name.
    """
    names: dict[str, None] = {}
    for code in _code_of(task):
        try:
            names.update(dict.fromkeys(_needed_for(code, importable)))
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass  # a name that somebody's metaclass or module does not tell
    return list(names)


def _needed_for(code: Any, importable: Callable[[str], bool]) -> Iterator[str]:
    """What a worker imports for one function or class."""
    if is_named(code, importable):
        yield from _used_by(code.__module__)
    elif type_of(code) is FunctionType:
        yield from _used_by_function(code, importable)
    else:
        yield _MAKER


def define_ahead(task: Any, definitions: Definitions) -> None:
    """Take apart what travels with a task while there is time: loading cloudpickle alone takes 10 ms.

    Args:
        task: any task.
        definitions: where its functions and classes are found when it is sent.
    """
    for code in _code_of(task):
        try:
            definitions.find(code)
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass  # sending it will fail in the same way, and say so


def _code_of(task: Any) -> Iterator[Any]:
    """The functions and classes that travel with a task, as far as they are to be seen at once."""
    if type(task) is not CallableTask:
        yield type(task)
        return
    values: tuple[Any, ...] = (task.fn, *task.args[:_MOST])  # a map's function is an argument
    for value in values:
        while type_of(value) is partial:
            value = value.func
        if issubclass(type_of(value), (FunctionType, type)):
            yield value


def _used_by_function(fn: FunctionType, importable: Callable[[str], bool]) -> Iterator[str]:
    """Modules that the globals refer to of which a function that travels by value speaks."""
    for name in fn.__code__.co_names:
        value = fn.__globals__.get(name)
        if issubclass(type_of(value), type) and not is_named(value, importable):
            yield _MAKER
        else:
            yield from _loaded(value)


def _used_by(module_name: str) -> Iterator[str]:
    """Modules that a module, and the packages that it is in, refer to."""
    while module_name:
        module = sys.modules.get(module_name)
        for value in list(vars(module).values()) if module is not None else ():
            yield from _loaded(value)
        module_name = module_name.rpartition(".")[0]


def _loaded(value: Any) -> Iterator[str]:
    """The module that a value is, or is from, if it is loaded and may be loaded before a fork."""
    name = _home(value)
    if name in sys.modules and is_allowed(name):
        yield name


def _home(value: Any) -> str:
    """The module that a value is, or is from; others than these may run code when they are asked."""
    kind = type_of(value)
    if kind is ModuleType:
        return str(value.__name__)
    if kind is FunctionType or kind is BuiltinFunctionType:
        return str(value.__module__)
    if issubclass(kind, type):
        return str(type.__getattribute__(value, "__module__"))  # without what a metaclass makes of it
    return ""
