"""What a function or class that travels by value has captured, and whether that is still so.

A pickled definition may be used again only as long as nothing that went into
it has changed.  `Captures` walks everything that a function or class reaches
through other code that travels by value: globals, closure cells, defaults and
attributes.  It notes each as it was (a cheap comparison by identity tells later
whether it still is) and whether some of it can change without such a trace.

Only a parent loads this module.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from functools import cached_property
from operator import is_
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from offloop.wire.byvalue import CACHED_FUNCTION, CODE, type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import CellType

#: Types of values that cannot change, or whose changes do not travel with them.
CONSTANTS: frozenset[type] = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis), type(NotImplemented)}
    | {ContextVar}
)
#: More of them, by name so that nothing is imported for it.  Loggers are pickled as their name.
_NAMED_ATOMS = frozenset(
    "datetime.date datetime.timedelta decimal.Decimal fractions.Fraction ipaddress.IPv4Address "
    "ipaddress.IPv6Address logging.Logger logging.RootLogger pathlib.PosixPath pathlib.PurePosixPath "
    "pathlib._local.PosixPath pathlib._local.PurePosixPath re.Pattern uuid.UUID "
    "typing.NewType typing.ParamSpec typing.TypeAliasType typing.TypeVar typing.TypeVarTuple".split()
)


class _Missing:
    """No value: an unset global or an empty cell."""


MISSING = _Missing()

#: Attributes that pickling an instance or looking at annotations leaves in a class.
_CACHES = frozenset({"__slotnames__", "__annotations_cache__"})

_DESCRIPTORS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
}

_scanned: WeakKeyDictionary[CodeType, tuple[tuple[str, ...], bool]] = WeakKeyDictionary()


class Captures:
    """Everything that one function or class captured, as it was when this was made.

    Args:
        root: the function or class.
        is_named: whether a function or class travels by name.
        importable: whether a module travels by name.

    Attributes:
        mutable: whether the root is a function whose captures can change
            unseen: it reaches a mutable object, or itself assigns to a global
            or a variable of an enclosing function, which a worker's copy must
            not remember from task to task.  What a *class* captures counts as
            constant: its mutable attributes are as they were when it was sent.
    """

    __slots__ = (
        "_cells",
        "_classes",
        "_due",
        "_functions",
        "_importable",
        "_is_named",
        "_methods",
        "_names",
        "_pending",
        "_seen",
        "mutable",
    )

    def __init__(
        self, root: object, is_named: Callable[[object], bool], importable: Callable[[str], bool]
    ) -> None:
        self.mutable = False
        self._names: list[tuple[dict[str, Any], str, Any]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._functions: list[tuple[FunctionType, Any, Any, Any, int]] = []
        self._methods: list[tuple[FunctionType, CodeType]] = []
        self._classes: list[tuple[type, Any, dict[str, Any]]] = []
        self._seen: set[Any] = set()
        self._pending: list[type] | None = []
        self._due: list[Any] = []  # functions and classes to be walked
        self._is_named = is_named
        self._importable = importable
        self._code(root)
        self._walk()
        if not self.mutable:
            self._walk_classes()
        self._seen.clear()

    def hold(self) -> bool:
        """Whether everything is still as it was; 0.1 µs and more, by how much there is."""
        for fn, code, defaults, keyword_defaults, attributes in self._functions:
            if (
                fn.__code__ is not code
                or fn.__defaults__ is not defaults
                or fn.__kwdefaults__ is not keyword_defaults
                or len(fn.__dict__) != attributes
            ):
                return False
        for variables, name, value in self._names:
            if variables.get(name, MISSING) is not value:
                return False
        for cell, value in self._cells:
            if _contents(cell) is not value:
                return False
        return not self._classes or self._classes_hold()

    def _classes_hold(self) -> bool:
        for method, code in self._methods:
            if method.__code__ is not code:
                return False
        for index, (cls, mro, values) in enumerate(self._classes):
            namespace = cls.__dict__
            if len(namespace) != len(values) or not all(map(is_, namespace.values(), values.values())):
                if _without_caches(namespace) != _without_caches(values):
                    return False
                self._classes[index] = (cls, mro, dict(namespace))
            if cls.__mro__ is not mro:
                return False
        return True

    def _visit(self, value: Any) -> None:
        kind = type_of(value)
        if kind in CONSTANTS:
            return
        if kind is tuple or kind is frozenset:
            for item in value:
                self._visit(item)
        elif kind is FunctionType or kind is CACHED_FUNCTION or issubclass(kind, type):
            if not self._is_named(value):
                self._code(value)
        elif not self._is_constant(value, kind):
            self.mutable = True

    def _is_constant(self, value: Any, kind: type[Any]) -> bool:
        if issubclass(kind, ModuleType):
            return self._importable(value.__name__) and sys.modules.get(value.__name__) is value
        if kind is BuiltinFunctionType:
            return self._is_named(value)
        if isinstance(value, _enum_base()):
            self._visit(kind)
            return True
        return f"{kind.__module__}.{kind.__qualname__}" in _NAMED_ATOMS

    def _code(self, value: Any) -> None:
        """Have a function or class walked that travels by value."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if type(value) is CACHED_FUNCTION:
            self._visit(getattr(value, "__wrapped__", None))
        elif type(value) is FunctionType or self._pending is None:
            self._due.append(value)
        else:
            self._pending.append(value)

    def _walk(self) -> None:
        """Walk what is due, one after the other: chains of functions may be longer than the stack is deep."""
        while self._due:
            value = self._due.pop()
            if type(value) is FunctionType:
                self._function(value)
            else:
                self._class(value)

    def _walk_classes(self) -> None:
        """Walk the classes once all that a function reaches without them is known not to be mutable."""
        pending, self._pending = self._pending, None
        self._due.extend(pending or ())
        self._walk()
        self.mutable = False

    def _function(self, fn: FunctionType) -> None:
        keyword_defaults: dict[str, Any] | None = fn.__kwdefaults__
        if self._pending is None:
            # Methods are many: a look at the code alone is what autoreload needs.
            self._methods.append((fn, fn.__code__))
        else:
            self._functions.append(
                (fn, fn.__code__, fn.__defaults__, keyword_defaults, len(fn.__dict__)),
            )
        names, assigns = scan(fn.__code__)
        self.mutable = self.mutable or assigns
        self._look_up(fn.__globals__, names)
        for cell in fn.__closure__ or ():
            value = _contents(cell)
            self._cells.append((cell, value))
            self._visit_if_set(value)
        self._visit(fn.__defaults__)
        self._look_up(keyword_defaults or {}, tuple(keyword_defaults or ()))
        self._look_up(fn.__dict__, tuple(fn.__dict__))

    def _look_up(self, namespace: dict[str, Any], names: Iterable[str]) -> None:
        for name in names:
            key = (id(namespace), name)
            if key not in self._seen:
                self._seen.add(key)
                value = namespace.get(name, MISSING)
                self._names.append((namespace, name, value))
                self._visit_if_set(value)

    def _visit_if_set(self, value: Any) -> None:
        if value is not MISSING:
            self._visit(value)

    def _class(self, cls: type) -> None:
        namespace = dict(cls.__dict__)
        self._classes.append((cls, cls.__mro__, namespace))
        for value in (type(cls), *cls.__bases__, *namespace.values()):
            for part in _parts(value):
                self._visit(part)


def is_data(value: Any, is_named: Callable[[object], bool]) -> bool:
    """Whether a value can't change, and reaches no code that travels by value.

    Args:
        value: anything.
        is_named: whether a function or class travels by name.
    """
    kind = type_of(value)
    if kind in CONSTANTS:
        return True
    if kind is tuple or kind is frozenset:
        return all(is_data(item, is_named) for item in value)
    if kind in CODE or issubclass(kind, type):
        return is_named(value)
    return f"{kind.__module__}.{kind.__qualname__}" in _NAMED_ATOMS


def _parts(value: Any) -> tuple[Any, ...]:
    """The functions in a descriptor, or the value itself."""
    for kind, names in _DESCRIPTORS.items():
        if isinstance(value, kind):
            return tuple(getattr(value, name) for name in names)
    return (value,)


def _without_caches(namespace: Mapping[str, Any]) -> dict[str, int]:
    """The identities of a class's attributes, without those that Python adds when it is used."""
    return {name: id(value) for name, value in namespace.items() if name not in _CACHES}


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def _enum_base() -> type | tuple[()]:
    """``enum.Enum``, if something imported it."""
    base: type | tuple[()] = getattr(sys.modules.get("enum"), "Enum", ())
    return base


def scan(code: CodeType) -> tuple[tuple[str, ...], bool]:
    """What code does to variables outside it, nested functions included.

    Args:
        code: a function's code.

    Returns:
        The names of the globals it uses, and whether it assigns to a global
        or to a variable of an enclosing function.
    """
    known = _scanned.get(code)
    if known is None:
        names: dict[str, None] = {}
        assigns = _scan(code, frozenset(code.co_freevars), names)
        known = _scanned[code] = (tuple(names), assigns)
    return known


def _scan(code: CodeType, outer: frozenset[str], names: dict[str, None]) -> bool:
    from dis import get_instructions

    assigns = False
    for instruction in get_instructions(code):
        operation = instruction.opname
        if operation.endswith("_GLOBAL"):
            names[instruction.argval] = None
            assigns = assigns or not operation.startswith("LOAD")
        elif operation in ("STORE_DEREF", "DELETE_DEREF"):
            assigns = assigns or instruction.argval in outer
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            assigns = _scan(constant, outer & frozenset(constant.co_freevars), names) or assigns
    return assigns
