"""Extension modules that refuse to be imported in an interpreter other than the main one.

A task that meets one as it is loaded has not begun, and can still run elsewhere.
One that meets it in the midst of its work can't.  So where there is an elsewhere
(``factory="auto"``), what a function's own code imports is imported before the
function is called.
"""

from __future__ import annotations

from functools import partial
from types import CodeType, FunctionType, MethodType

from offloop.errors import RemoteTraceback
from offloop.wire.exceptions import stored
from offloop.wire.tracebacks import brief

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: What refusals say: those of CPython, of modules made with PyO3, with Cython, and of NumPy.
_PHRASES = ("subinterpreter", "sub-interpreter", "one interpreter per process", "once per process")
#: So much of an exception's chain, of a call's arguments, and so many functions are looked at.
_MOST_CAUSES, _MOST_ARGUMENTS, _MOST_FUNCTIONS = 16, 8, 64


def is_refusal(error: BaseException | None) -> bool:
    """Whether an error came of a module that refuses; told by its text, as there is no class for it."""
    for _ in range(_MOST_CAUSES):
        if error is None:
            return False
        text = error.text if type(error) is RemoteTraceback else brief(error)
        if any(phrase in text for phrase in _PHRASES):
            return True
        error = stored(error, "__cause__") or stored(error, "__context__")
    return False


class Lookout:
    """Imports what functions would import, once for each of them."""

    def __init__(self) -> None:
        self._seen: dict[int, CodeType] = {}  # by id, as comparing code takes long

    def look(self, fn: Any, args: tuple[Any, ...]) -> None:
        """Import what a call's function, and functions of its module that it names, would import.

        Raises:
            ImportError: a module refuses.  Other failures are left to the function.
        """
        waiting = [fn, *args[:_MOST_ARGUMENTS]]  # a map's function is an argument
        for _ in range(_MOST_FUNCTIONS):
            if not waiting:
                return
            function = _function_of(waiting.pop(0))
            if function is not None and id(function.__code__) not in self._seen:
                self._seen[id(function.__code__)] = function.__code__
                for code in _codes(function.__code__):
                    _import_ahead(code, function.__globals__)
                    waiting += _named_by(code, function)


def _function_of(value: Any) -> FunctionType | None:
    """The Python function that a callable is in the end, if it is one."""
    while type(value) in (MethodType, partial):
        value = value.func if type(value) is partial else value.__func__
    function: FunctionType | None = value if type(value) is FunctionType else None
    return function


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions within it."""
    yield code
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from _codes(constant)


def _named_by(code: CodeType, function: FunctionType) -> list[Any]:
    space = function.__globals__
    named = [space[name] for name in code.co_names if name in space]
    return [value for value in named if type(value) is FunctionType and value.__globals__ is space]


def _import_ahead(code: CodeType, space: dict[str, Any]) -> None:
    for name, names, level in _imports(code):
        try:
            __import__(name, space, None, names, level)
        except BaseException as error:
            if is_refusal(error):
                raise


def _imports(code: CodeType) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """What the ``import`` statements in some code import: module, names taken from it, level."""
    import opcode

    if opcode.opmap["IMPORT_NAME"] not in code.co_code[::2]:
        return
    import dis

    instructions = list(dis.get_instructions(code))
    for at, instruction in enumerate(instructions):
        if instruction.opname == "IMPORT_NAME":
            level, names = instructions[at - 2].argval, instructions[at - 1].argval
            if type(level) is int:
                yield str(instruction.argval), names or (), level
