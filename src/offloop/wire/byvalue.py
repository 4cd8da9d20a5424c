"""How things travel by value: everything that touches cloudpickle, and what its pickles call.

Cloudpickle's reducers are used, not its pickler: they are what knows how to
take functions and classes apart, while *which* ones go by value is decided by
offloop (cloudpickle takes every module in ``sys.modules`` for importable).
They have no public names; ``tests/unit/test_codec.py`` notices if they move.

Functions are put together again here, as a worker would need 25 ms and 4 MB
to load cloudpickle for that; classes are what it is loaded for.

Classes carry cloudpickle's tracker id, so that a class that comes back is
recognised.  Where the *original* class is found under that id, its state is
left alone (see `set_class_state`): cloudpickle itself would replace the
methods of the parent's class with copies from the worker.

This module loads in workers: only light imports; cloudpickle when needed.
"""

from __future__ import annotations

import builtins
import sys
import types
from _weakrefset import WeakSet
from collections import OrderedDict
from contextvars import ContextVar
from copyreg import dispatch_table
from functools import lru_cache
from io import TextIOWrapper

from offloop.wire.cpickle import PickleBuffer
from offloop.wire.variables import default_of, find_variable, homes_of, namespace_of, token_of, tokens

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from offloop.wire.pickling import TablePickler

    Reducer = Callable[[TablePickler, Any], Any]

#: ``type`` with one argument, of which type checkers know what it returns.
type_of: Callable[[object], type[Any]] = type

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: only such a class can be made anew from its parts.


def _nothing() -> None: ...


#: The type that ``functools.lru_cache`` makes of a function.
CACHED_FUNCTION: type = type(lru_cache(_nothing))

#: What is treated like a function or class, besides these: asked about, and sent once.
CODE: frozenset[type] = frozenset({types.FunctionType, types.BuiltinFunctionType, CACHED_FUNCTION})

#: Names in `types` of built-in classes that cannot be found under their own ``__qualname__``.
TYPE_NAMES: dict[int, str] = {
    id(value): name
    for name, value in vars(types).items()
    if type(value) is type
    and getattr(sys.modules.get(value.__module__), value.__qualname__, None) is not value
}

#: In bytes.
_SMALL_ARRAY = 1 << 10

_cloudpickle: Any = None


def is_made_of_python(obj: Any) -> bool:
    """Whether a function or class could be made anew from its parts."""
    kind = type_of(obj)
    if kind is types.BuiltinFunctionType:
        return False
    return kind in CODE or bool(obj.__flags__ & _HEAP_TYPE and id(obj) not in TYPE_NAMES)


def cloudpickle() -> Any:
    """The module with cloudpickle's reducers, imported when first needed (5 to 40 ms)."""
    global _cloudpickle
    if _cloudpickle is None:
        from importlib import import_module

        _cloudpickle = import_module("cloudpickle.cloudpickle")
        # Its table knows more types than can be named without importing their modules.
        for kind in _cloudpickle.Pickler.dispatch_table.maps[0]:
            SPECIAL.setdefault(kind, _reduce_special)
    return _cloudpickle


def is_registered(module_name: str) -> bool:
    """Whether the user asked for this module with ``cloudpickle.register_pickle_by_value``."""
    loaded = sys.modules.get("cloudpickle.cloudpickle")
    names: Any = getattr(loaded, "_PICKLE_BY_VALUE_MODULES", None)
    return bool(names) and any(module_name == name or module_name.startswith(f"{name}.") for name in names)


def reduce_code(pickler: TablePickler, obj: Any) -> Any:
    """Take a function or class apart, for a receiver that cannot import it."""
    kind = type_of(obj)
    if kind is types.FunctionType:
        return _reduce_function(pickler, obj)
    if kind is CACHED_FUNCTION:
        options = obj.cache_parameters()
        return make_cached, (obj.__wrapped__, options["maxsize"], options["typed"])
    if not is_made_of_python(obj):
        name = TYPE_NAMES.get(id(obj))
        # Without a name here pickle says what is wrong with it, or knows better (methods, type(None)).
        return NotImplemented if name is None else (type_named, (name,))
    pickler.classes.add(id(obj))
    pickler.dirty = True
    cp = cloudpickle()
    maker, args, state, _, _, _ = cp._dynamic_class_reduce(obj)
    if maker is cp._make_skeleton_class:
        args[3].update(_dropped(obj, args[2]))
    elif maker is cp._make_skeleton_enum:  # what can be called becomes a method, unless it is marked
        member: Any = sys.modules["enum"].member
        args[3].update({name: member(value) for name, value in args[3].items() if callable(value)})
    return make_class, (maker, *args), state, None, None, set_class_state


def _dropped(cls: type, bases: tuple[Any, ...]) -> dict[str, Any]:
    """What a class must have while it is being made, and cloudpickle leaves out."""
    dropped: dict[str, Any] = {"__qualname__": cls.__qualname__}
    slots = cls.__dict__.get("__slots__")
    gives_its_own = any(getattr(base, "__qualname__", "") == "NamedTuple" for base in bases)
    if isinstance(slots, (str, tuple, list, dict)) and not gives_its_own:  # an iterator would be used up
        dropped["__slots__"] = slots
    return dropped


def _reduce_function(pickler: TablePickler, fn: types.FunctionType) -> Any:
    cp = cloudpickle()
    pickler.inlined = pickler.dirty = True
    code, namespace, _, _, cells = cp.Pickler._function_getnewargs(pickler, fn)  # it uses `globals_ref` only
    attributes, parts = _function_state(cp, fn)
    # Submodules that it uses are only to be imported, which unpickling them does.
    state = attributes, parts, parts.pop("__globals__"), parts.pop("__closure__"), parts.pop(_SUBMODULES)
    args = code, namespace, None if cells is None else len(cells)
    return make_function, args, state, None, None, set_function_state


_SUBMODULES = "_cloudpickle_submodules"


def _function_state(cp: Any, fn: types.FunctionType) -> Any:
    try:
        return cp._function_getstate(fn)
    except Exception:
        # From Python 3.14 on annotations are evaluated now, and may name what only type checkers import.
        if getattr(fn, "__annotate__", None) is None:
            raise
    from importlib import import_module

    library = import_module("annotationlib")
    bare = types.FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    for name in ("__dict__", "__doc__", "__kwdefaults__", "__module__", "__qualname__", "__type_params__"):
        setattr(bare, name, getattr(fn, name))
    attributes, parts = cp._function_getstate(bare)
    parts["__annotations__"] = library.get_annotations(fn, format=library.Format.STRING)
    return attributes, parts


def _reduce_cell(_: TablePickler, cell: types.CellType) -> Any:
    try:
        return types.CellType, (cell.cell_contents,)
    except ValueError:
        return types.CellType, ()


def _reduce_special(_: TablePickler, obj: Any) -> Any:
    return cloudpickle().Pickler.dispatch_table[type(obj)](obj)


#: Where the name of its file stands among the arguments that make a code object.
_FILE_NAME = 10


def _reduce_code_object(pickler: TablePickler, code: types.CodeType) -> Any:
    maker, args = _reduce_special(pickler, code)
    # Cloudpickle from 3.1.3 on leaves the file out: then tracebacks would show no lines.
    return maker, (*args[:_FILE_NAME], code.co_filename, *args[_FILE_NAME + 1 :])


def _reduce_module(pickler: TablePickler, module: types.ModuleType) -> Any:
    name = module.__name__
    if sys.modules.get(name) is module and not is_registered(name) and pickler.importable(name):
        return module_named, (name,)
    # The contents are state rather than arguments, as they may refer to the module itself.
    left_out = ("__builtins__", "__loader__", "__spec__")
    return types.ModuleType, (name,), {k: v for k, v in vars(module).items() if k not in left_out}


def _reduce_method(pickler: TablePickler, method: types.MethodType) -> Any:
    owner, fn = method.__self__, method.__func__
    name: str = getattr(fn, "__name__", "")
    if getattr(owner, name, None) == method and not _is_inside(pickler, owner, name):
        return NotImplemented  # by its name, which keeps it the class's own function
    return types.MethodType, (fn, owner)


def _is_inside(pickler: TablePickler, owner: Any, name: str) -> bool:
    """Whether the class that has a method goes by value into the same message.

    Then its function is at hand, and while the class is being loaded, as for a method that
    is kept in an attribute of it, there is nothing yet under the name.
    """
    if not pickler.classes:
        return False
    kind = type_of(owner)
    classes: tuple[type, ...] = owner.__mro__ if issubclass(kind, type) else kind.__mro__
    home = next((cls for cls in classes if name in cls.__dict__), kind)
    return id(home) in pickler.classes


def _reduce_typing(pickler: TablePickler, made: Any) -> Any:
    from offloop.wire import typevars

    return typevars.reduce(pickler, made)


def _reduce_variable(pickler: TablePickler, variable: ContextVar[Any]) -> Any:
    def is_named(module_name: str) -> bool:
        return pickler.importable(module_name) and not is_registered(module_name)

    homes = () if variable in tokens else homes_of(variable, is_named)
    if homes:
        module_name, name = homes[0]
        return getattr, (sys.modules[module_name], name)
    return find_variable, (token_of(variable), variable.name, *default_of(variable))


def _reduce_memoryview(_: TablePickler, view: memoryview) -> Any:
    return bytes, (PickleBuffer(view) if view.c_contiguous else view.tobytes(),)


def _reduce_array(_: TablePickler, array: Any) -> Any:
    """A small array with its bytes: a buffer of its own takes twice the time to pickle and to load.

    Larger ones would need so much memory of their own meanwhile that it takes longer.
    """
    if array.nbytes > _SMALL_ARRAY or type_of(array) in dispatch_table:
        return NotImplemented
    # What is loaded this way can be written to, and its numbers are in this machine's order.
    return array.__reduce__() if array.flags.writeable and array.dtype.isnative else NotImplemented


def _refuse_connection(_: TablePickler, end: Any) -> Any:
    if type_of(end) in dispatch_table:
        return NotImplemented
    # Pickle would send the number of its descriptor, which is another file over there.
    raise TypeError("an end of a multiprocessing.Pipe can't be sent to a worker: use Execution.channel")


#: Other types that plain pickle refuses, gets wrong or is slow with, and how they are pickled.
SPECIAL: dict[type, Reducer] = {
    types.ModuleType: _reduce_module,
    types.MethodType: _reduce_method,
    types.CodeType: _reduce_code_object,
    types.CellType: _reduce_cell,
    ContextVar: _reduce_variable,
    memoryview: _reduce_memoryview,
}
_empty: dict[Any, Any] = {}
_ordered: OrderedDict[Any, Any] = OrderedDict()
for _kind in (
    types.GetSetDescriptorType,
    types.MappingProxyType,
    property,
    classmethod,
    staticmethod,
    TextIOWrapper,
    WeakSet,
    *map(type, (_empty.keys(), _empty.values(), _empty.items())),
    *map(type, (_ordered.keys(), _ordered.values(), _ordered.items())),
):
    SPECIAL[_kind] = _reduce_special


#: The same for types of modules that may be loaded later, or never.
_LATER: dict[str, tuple[tuple[str, ...], Reducer]] = {
    "typing": (("TypeVar", "ParamSpec", "TypeVarTuple", "NewType", "TypeAliasType"), _reduce_typing),
    "numpy": (("ndarray",), _reduce_array),
    "multiprocessing.connection": (("Connection",), _refuse_connection),
}


def learn_types() -> bool:
    """Have the types of `_LATER` pickled right, as far as their modules are loaded by now.

    Returns:
        False if one is being loaded, by another thread.
    """
    are_whole = True
    for module_name, (names, reducer) in _LATER.items():
        content = namespace_of(sys.modules.get(module_name))
        SPECIAL.update({content[name]: reducer for name in names if isinstance(content.get(name), type)})
        are_whole &= not getattr(content.get("__spec__"), "_initializing", False)
    return are_whole


# What pickles call.


def module_named(name: str) -> types.ModuleType:
    """Import a module, without `importlib`, which few workers need otherwise."""
    __import__(name)
    return sys.modules[name]


def type_named(name: str) -> type:
    """A built-in class, by its name in `types`."""
    cls: type = getattr(types, name)
    return cls


_made: WeakSet[type] = WeakSet()  # classes that are copies, made here


def make_function(code: types.CodeType, namespace: dict[str, Any], cells: int | None) -> types.FunctionType:
    """Make a function that is still to be filled, as it may refer to itself.

    Args:
        code: what it does.
        namespace: its globals, which others of the same message may share.
        cells: how many variables of the functions around it it uses; None without any.
    """
    namespace["__builtins__"] = builtins.__dict__
    closure = None if cells is None else tuple(types.CellType() for _ in range(cells))
    return types.FunctionType(code, namespace, None, None, closure)


def set_function_state(fn: types.FunctionType, state: tuple[Any, ...]) -> types.FunctionType:
    """Fill a function made by `make_function`.

    Args:
        fn: the function.
        state: its own attributes; those that every function has; the globals
            that it uses; its cells; and what else it needs to be imported.
    """
    attributes, parts, variables, cells, _ = state
    fn.__dict__.update(attributes)
    fn.__globals__.update(variables)
    for own, cell in zip(fn.__closure__ or (), cells or (), strict=True):
        try:
            own.cell_contents = cell.cell_contents
        except ValueError:
            pass  # empty: a variable that was not assigned yet
    for name, value in parts.items():
        setattr(fn, name, value)
    return fn


def make_like(
    model: types.FunctionType,
    defaults: tuple[Any, ...] | None,
    keyword_defaults: dict[str, Any] | None,
    cells: tuple[Any, ...],
) -> types.FunctionType:
    """Make a function of another one's code and globals, with captures of its own.

    Args:
        model: the other one.
        defaults: of its positional parameters.
        keyword_defaults: of those that are keywords only.
        cells: the values of the variables of the functions around it.
    """
    closure = tuple(map(types.CellType, cells)) or None
    fn = types.FunctionType(model.__code__, model.__globals__, model.__name__, defaults, closure)
    fn.__kwdefaults__ = keyword_defaults
    fn.__qualname__, fn.__module__, fn.__doc__ = model.__qualname__, model.__module__, model.__doc__
    return fn


def make_cached(fn: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Make a ``functools.lru_cache`` function, its cache empty."""
    return lru_cache(maxsize, typed)(fn)


def make_class(maker: Callable[..., type], *args: Any) -> type:
    """Make a class that is still to be filled, or find the one that has its tracker id.

    Not making a second one, as cloudpickle does before it looks, also keeps
    ``__init_subclass__`` from running again.
    """
    tracker = args[-2]
    known: type | None = cloudpickle()._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker)
    if known is not None:
        return known
    cls = maker(*args)
    _made.add(cls)
    return cls


def set_class_state(cls: type, state: Any) -> Any:
    """Fill or update a class made by `make_class`; an original keeps its own attributes."""
    return cloudpickle()._class_setstate(cls, state) if cls in _made else cls
