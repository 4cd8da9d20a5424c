"""What is executed: tasks, and what a running task may know about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import ContextVar
from types import GenericAlias

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from typing import Any, Generic, ParamSpec, TypeVar, overload

    from offloop.environment import Environment
    from offloop.protocols import TaskContext

    P = ParamSpec("P")
    R = TypeVar("R")
    Item = TypeVar("Item")
else:  # `typing` would cost a worker 8 ms
    R = "R"

    class Generic:
        """What `typing.Generic` is to type checkers: subscripting works as for ``list``."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


_new = object.__new__


def _hide_nothing() -> bool:
    return False


#: Whether texts about tasks are to leave out arguments: set by `offloop.hiding`, in the parent.
hides_arguments: Callable[[], bool] = _hide_nothing


class Task(ABC, Generic[R]):
    """A unit of execution, generic in its result.

    Subclass it and give it a ``run``.  The object is pickled on its way into a
    process worker (a thread worker shares it), so what it holds should be
    data: paths and numbers rather than open files.
    """

    @abstractmethod
    def run(self, environment: Environment) -> Any:
        """Do the work, inside a worker.

        Args:
            environment: the worker's own store, which outlives this task.

        Returns:
            The result; or an awaitable of it, which is awaited on the
            worker's event loop; or, where ``run`` is a generator or an async
            generator, a stream of items (a plain ``enqueue`` of such a task
            resolves to their list).
        """


class CallableTask(Task[R]):
    """A task that calls ``fn(*args, **kwargs)`` and ignores the environment.

    Args:
        fn: a function, coroutine function, generator function or any callable.
        *args: its positional arguments.
        **kwargs: its keyword arguments; every keyword belongs to ``fn``.

    Raises:
        TypeError: ``fn`` is not callable.
    """

    __slots__ = ("args", "fn", "kwargs")

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    if TYPE_CHECKING:  # `typing.overload` is not for workers either

        @overload
        def __init__(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
        @overload
        def __init__(
            self: CallableTask[list[Item]],
            fn: Callable[P, AsyncIterator[Item] | Iterator[Item]],
            /,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> None: ...
        @overload
        def __init__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
        def __init__(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None: ...

    else:

        def __init__(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
            if not callable(fn):
                raise TypeError(not_callable(fn))
            self.fn = fn
            self.args = args
            self.kwargs = kwargs

    @classmethod
    def of(cls, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallableTask[Any]:
        """The same from arguments packed already: what ``submit`` does a hundred thousand times a second."""
        if not callable(fn):
            raise TypeError(not_callable(fn))
        task: CallableTask[Any] = _new(cls)
        task.fn = fn
        task.args = args
        task.kwargs = kwargs
        return task

    def run(self, environment: Environment) -> Any:
        """Call the function; the environment is not passed on."""
        return self.fn(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        return f"<CallableTask {describe(self)}>"


def not_callable(fn: object) -> str:
    """The text of the error for what is given in place of a function."""
    name = type(fn).__name__
    if hasattr(fn, "run"):
        return f"fn must be callable, not {name}, which is a task: enqueue it"
    hint = "pass the function and its arguments, as in submit(fn, 3), and not what a call of it returns"
    return f"fn must be callable, not {name}; {hint}"


def describe(task: object, limit: int = 80) -> str:
    """A short text that names a task for people, such as ``resize('a.png')``.

    It never raises, whatever the ``repr`` of the arguments does; and has no arguments where
    the environment variable ``OFFLOOP_HIDE_ARGUMENTS`` is set.
    """
    try:
        text = f"{name_of(task)}(…)" if hides_arguments() else _describe(task)
    except BaseException:  # user code: it may exit, and this is called while executions are settled
        text = class_name(task)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def name_of(task: object) -> str:
    """The name of a task's function or class, without arguments; like `describe` it never raises."""
    try:
        return _name(call_of(task)[0])
    except BaseException:
        return class_name(task)


def module_of(task: object) -> str:
    """The module of a task's function or class, or nothing; like `describe` it never raises."""
    try:
        module: object = getattr(call_of(task)[0], "__module__", None)
        return module if isinstance(module, str) else ""
    except BaseException:
        return ""


def class_name(obj: object) -> str:
    """The name of an object's class, whatever a metaclass makes of that."""
    name: str = type.__getattribute__(type(obj), "__name__")
    return name


_type_of: Callable[[object], type[Any]] = type  # whose own result type checkers narrow to nothing known


def call_of(task: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a task calls, and with what; of a chunk of a map, the map's function, and the items.

    Of a task that is no `CallableTask`, its class.
    """
    if type(task) is not CallableTask:
        return _type_of(task), ()
    fn, args = task.fn, task.args
    return (args[0], args[1]) if getattr(fn, "__module__", "") == "offloop.child.chunk" else (fn, args)


def _name(fn: Any) -> str:
    name: object = getattr(fn, "__qualname__", None)
    return name if name and isinstance(name, str) else repr(fn)


def _describe(task: Any) -> str:
    if type(task) is not CallableTask:
        kind: Any = task.__class__
        return repr(task) if kind.__repr__ is not object.__repr__ else kind.__qualname__
    fn, args = call_of(task)
    from reprlib import Repr  # an argument may be a list of a million

    short = Repr()
    short.maxstring = short.maxother = 60
    arguments = [short.repr(arg) for arg in args[:20]]
    arguments += [f"{key}={short.repr(value)}" for key, value in task.kwargs.items()]
    return f"{_name(fn)}({', '.join(arguments)})"


#: Finds the running task's context.  A worker's thread sets it once, so that
#: running a task costs nothing; overlapping async tasks each set their own.
provider: ContextVar[Callable[[], TaskContext | None]] = ContextVar("offloop_task")


def find_task() -> TaskContext | None:
    """The context of the task that is running here, or None: `current_task` for offloop's own use."""
    find = provider.get(None)
    return find() if find is not None else None


def current_task() -> TaskContext:
    """The context of the task that is running here.

    Returns:
        The running task's `TaskContext`.

    Raises:
        LookupError: no task is running in this thread or asyncio task.
    """
    context = find_task()
    if context is None:
        raise LookupError("no offloop task is running here")
    return context
