"""Interrupting the Python code of a thread from another one, where there are no signals for it.

Loaded only where it is needed, as it loads `ctypes`.
"""

from __future__ import annotations

import ctypes

from offloop.child.turns import Turns
from offloop.errors import TaskCancelled

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


def interrupt_by_exception(turns: Turns, thread: int) -> None:
    """Have a cancellation raised in the runner's thread at its next Python instruction.

    It is the only way into a thread that CPython offers, for the threads of the
    interpreter that asks.  A blocking call has to return first.

    Args:
        turns: what the runner shares with whoever cancels.
        thread: the runner's.
    """
    identifier = ctypes.c_ulong(thread)
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    exception = ctypes.py_object(_told_when_raised(turns))
    turns.withdraw = lambda: set_exception(identifier, None)
    turns.interrupt_from_outside = lambda: set_exception(identifier, exception)


def _told_when_raised(turns: Turns) -> type[TaskCancelled]:
    """`TaskCancelled`, which says that it comes: it is made when it is raised, and not before."""

    class Raised(TaskCancelled):
        def __init__(self, *args: object) -> None:
            super().__init__(*args or ("the task was cancelled",))
            turns.interruptible = 0

        def __reduce__(self) -> tuple[Any, ...]:
            return TaskCancelled, self.args

    Raised.__name__, Raised.__qualname__ = TaskCancelled.__name__, TaskCancelled.__qualname__
    Raised.__module__ = TaskCancelled.__module__
    return Raised
