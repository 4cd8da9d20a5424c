"""Functions that are made anew for each task, of code that others were made of before.

``submit(lambda: f(x))`` in a loop makes a function each time, for one task.  To
take each apart would cost 60 µs.  So from the second function of the same code
on, what they share is defined once, as a *model*: the same function without
what it captured.  One that captured nothing does what its model does, and goes
by that one's number; for any other, the message says what it captured, and the
worker makes it of the model (`byvalue.make_like`).

Only data that can't change is told in this way, as code that travels by value
shares its globals with what it captured; and a function that is used again
gets a definition of its own, which is cheaper from then on.

Only a parent loads this module.
"""

from __future__ import annotations

from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from offloop.wire.captures import is_data

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from offloop.wire.definitions import Definition

#: So much code, and so many functions that were used once, are remembered.
MOST = 1000


class Captured(NamedTuple):
    """What a function has beside its code and its globals, in the order of `byvalue.make_like`."""

    defaults: tuple[Any, ...] | None
    keyword_defaults: dict[str, Any] | None
    cells: tuple[Any, ...]

    def __bool__(self) -> bool:
        return bool(self.defaults or self.keyword_defaults or self.cells)


class _Made:
    """What was made of one code object.  The code is kept, so that its id is not used again; no globals are.

    Attributes:
        first: the first function, which has a definition of its own.
        model: what the others are made of, from the second one on.
        is_fit: whether that can be defined, as far as one knows.
    """

    __slots__ = ("code", "first", "is_fit", "model")

    def __init__(self, fn: FunctionType) -> None:
        self.code: CodeType = fn.__code__
        self.first = ref(fn)
        self.model: ref[FunctionType] = ref(fn)
        self.is_fit = True

    def model_of(self, fn: FunctionType) -> FunctionType | None:
        """What a function can be made of; None if nothing is left that has its globals and its name."""
        first = self.first()
        known = self.model() or first
        if known is None or known.__globals__ is not fn.__globals__ or not _are_alike(fn, known):
            return None
        if known is first:
            known = _without_captures(fn)
            self.model = ref(known)
        return known


class Models:
    """The models of one pool.

    Args:
        find: finds or makes a function's definition; None if it has to be pickled each time.
        is_named: whether a function or class travels by name.
    """

    def __init__(
        self, find: Callable[[FunctionType], Definition | None], is_named: Callable[[object], bool]
    ) -> None:
        self._find = find
        self._is_named = is_named
        self._made: dict[int, _Made] = {}  # by id() of the code
        self._used: dict[int, ref[FunctionType]] = {}  # by id() of the function

    def find(self, fn: FunctionType) -> tuple[Definition, Captured] | None:
        """The model of a function that is used for the first time, and what is its own.

        Args:
            fn: a function that has no definition.

        Returns:
            None if it is to be treated as others are.
        """
        made = self._made.get(id(fn.__code__))
        if made is None or (made.first() is None and made.model() is None and made.is_fit):
            if len(self._made) >= MOST:
                self._made.clear()
            self._made[id(fn.__code__)] = _Made(fn)
            return None
        if not made.is_fit or made.first() is fn or self._is_named(fn):
            return None
        captured = self._captured(fn)
        if captured is None or (captured and self._was_used(fn)):
            return None
        model = made.model_of(fn)
        if model is None:
            return None
        definition = self._find(model)
        made.is_fit = definition is not None
        return None if definition is None else (definition, captured)

    def _was_used(self, fn: FunctionType) -> bool:
        known = self._used.get(id(fn))
        if known is not None and known() is fn:
            return True
        if len(self._used) >= MOST:
            self._used.clear()
        self._used[id(fn)] = ref(fn)
        return False

    def _captured(self, fn: FunctionType) -> Captured | None:
        """What a function captured, if all of it is data and it has nothing else of its own."""
        if fn.__dict__ or _is_annotated(fn) or getattr(fn, "__type_params__", None):
            return None
        try:
            cells = tuple([cell.cell_contents for cell in fn.__closure__ or ()])
        except ValueError:  # a variable that was not assigned yet
            return None
        captured = Captured(fn.__defaults__, fn.__kwdefaults__, cells)
        values = (*cells, *(captured.defaults or ()), *(captured.keyword_defaults or {}).values())
        for value in values:
            if not is_data(value, self._is_named):
                return None
        return captured


def _is_annotated(fn: FunctionType) -> bool:
    """Whether a function has annotations, which from Python 3.14 on are not evaluated for this."""
    try:
        return fn.__annotate__ is not None  # type: ignore[attr-defined]
    except AttributeError:
        return bool(fn.__annotations__)


def _are_alike(fn: FunctionType, other: FunctionType) -> bool:
    """Whether two functions of the same code are called the same."""
    return (
        fn.__qualname__ == other.__qualname__
        and fn.__name__ == other.__name__
        and fn.__module__ == other.__module__
        and fn.__doc__ == other.__doc__
    )


def _without_captures(fn: FunctionType) -> FunctionType:
    """The same function, its variables of the functions around it empty."""
    cells = tuple(CellType() for _ in fn.__closure__ or ())
    model = FunctionType(fn.__code__, fn.__globals__, fn.__name__, None, cells or None)
    model.__qualname__, model.__module__, model.__doc__ = fn.__qualname__, fn.__module__, fn.__doc__
    return model
