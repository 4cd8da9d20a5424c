"""Interrupting the Python code of a thread from another one, where there are no signals for it.

Loaded only where it is needed, as it loads `ctypes`.
"""

from __future__ import annotations

import ctypes
import sys

from offloop.child.jumps import Jumps, is_at_jump, jumps
from offloop.child.turns import Turns
from offloop.errors import TaskCancelled

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


def interrupt_by_exception(turns: Turns, thread: int, is_seen: bool = False) -> None:
    """Have a cancellation raised in the runner's thread at its next Python instruction.

    It is the only way into a thread that CPython offers, for the threads of the
    interpreter that asks.  A blocking call has to return first.

    Args:
        turns: what the runner shares with whoever cancels.
        thread: the runner's.
        is_seen: whether it may be looked at, to spare it an exception at a jump.  Not in an
            interpreter: a look at a thread is one at those of all interpreters, and those run.
    """
    identifier = ctypes.c_ulong(thread)
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    exception = ctypes.py_object(_told_when_raised(turns))

    def interrupt() -> None:
        if not (is_seen and _stands_still() and _is_interrupted_after_jump(turns, jumps, thread)):
            set_exception(identifier, exception)

    turns.jumps = jumps
    turns.withdraw = lambda: set_exception(identifier, None)
    turns.interrupt_from_outside = interrupt


def _stands_still() -> bool:
    """Whether all Python code but this thread's waits: it does not with other GILs, or none."""
    interpreters = sys.modules.get("_interpreters") or sys.modules.get("_xxsubinterpreters")  # on 3.12
    is_alone = interpreters is None or len(interpreters.list_all()) == 1
    return is_alone and getattr(sys, "_is_gil_enabled", lambda: True)()


def _is_interrupted_after_jump(turns: Turns, jumps: Jumps, thread: int) -> bool:
    """Whether a thread is at a jump, and will be interrupted right after it."""
    while True:
        frame = sys._current_frames().get(thread)
        if frame is None or not jumps.put_off(thread, frame, turns.interrupt):
            return False
        if sys._current_frames().get(thread) is frame and is_at_jump(frame):
            return True  # the next instruction is one of its code, which is monitored by now
        if not jumps.withdraw(thread):
            return True  # it has come


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
