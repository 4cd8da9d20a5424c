"""What is executed: tasks, and what a running task may know about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import ContextVar
from types import GenericAlias

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Generic, TypeVar

    from offloop.environment import Environment
    from offloop.protocols import TaskContext

    R = TypeVar("R")
else:  # `typing` would cost a worker 8 ms
    R = "R"

    class Generic:
        """What `typing.Generic` is to type checkers: subscripting works as for ``list``."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


_new = object.__new__


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

    def __init__(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {type(fn).__name__}")
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    @classmethod
    def of(cls, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallableTask[Any]:
        """The same from arguments packed already: what ``submit`` does a hundred thousand times a second."""
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {type(fn).__name__}")
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


def describe(task: object, limit: int = 80) -> str:
    """A short text that names a task for people, such as ``resize('a.png')``.

    It never raises, whatever the ``repr`` of the arguments does.
    """
    try:
        text = _describe(task)
    except Exception:
        text = type(task).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _describe(task: object) -> str:
    if type(task) is not CallableTask:
        return repr(task) if type(task).__repr__ is not object.__repr__ else type(task).__qualname__
    fn, args = task.fn, task.args
    if getattr(fn, "__module__", "") == "offloop.child.chunk":  # of a map: its function, and the items
        fn, args = args[0], tuple(args[1])
    name = getattr(fn, "__qualname__", None) or repr(fn)
    from reprlib import Repr  # an argument may be a list of a million

    short = Repr()
    short.maxstring = short.maxother = 60
    arguments = [short.repr(arg) for arg in args[:20]]
    arguments += [f"{key}={short.repr(value)}" for key, value in task.kwargs.items()]
    return f"{name}({', '.join(arguments)})"


#: Finds the running task's context.  A worker's thread sets it once, so that
#: running a task costs nothing; overlapping async tasks each set their own.
provider: ContextVar[Callable[[], TaskContext | None]] = ContextVar("offloop_task")


def current_task() -> TaskContext:
    """The context of the task that is running here.

    Returns:
        The running task's `TaskContext`.

    Raises:
        LookupError: no task is running in this thread or asyncio task.
    """
    find = provider.get(None)
    context = find() if find is not None else None
    if context is None:
        raise LookupError("no offloop task is running here")
    return context
