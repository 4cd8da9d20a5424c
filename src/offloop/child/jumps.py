"""An interruption that finds its thread at a jump backwards comes one instruction later.

CPython lets exceptions from outside, those of signal handlers and of other threads,
in after calls and at jumps backwards.  At a jump it looks up the `try` around it by
an instruction that may not be in it, and passes by a `finally` or an `except`
(python/cpython#108214 and #130279): by that of a ``while n < limit: n += 1`` always on
Python 3.13, on 3.11 and 3.12 where a loop stands in one line, sometimes with nested
loops on 3.14.  The instruction that the jump leads to is in the loop, and what is raised
there finds the right `try`.

Loaded only when something is to be interrupted.
"""

from __future__ import annotations

import _thread
import sys
from opcode import opname

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType


def is_at_jump(frame: FrameType) -> bool:
    """Whether a frame, the innermost one of its thread, is at a jump backwards."""
    return "JUMP_BACKWARD" in opname[frame.f_code.co_code[frame.f_lasti]]


if sys.version_info >= (3, 12):
    from sys import monitoring

    class Jumps:
        """The threads that are at a jump, and what is to be called there at the next instruction.

        One for the interpreter: there are six ids for tools, and one is in use only while a
        thread waits.
        """

        _IDS = (4, 3)  # those that belong to no kind of tool

        def __init__(self) -> None:
            self._lock = _thread.allocate_lock()
            self._waiting: dict[int, tuple[CodeType, Callable[[], object]]] = {}
            self._id = 0

        def put_off(self, thread: int, frame: FrameType, action: Callable[[], object]) -> bool:
            """Have ``action`` called in a thread before its next instruction, if it is at a jump.

            Args:
                thread: its identifier.
                frame: its innermost frame.
                action: may raise.

            Returns:
                Whether it will be: not if the thread is at no jump, or waits already, or other
                tools use all ids.
            """
            if not is_at_jump(frame):
                return False
            with self._lock:
                if thread in self._waiting or not (self._waiting or self._take_id()):
                    return False
                self._waiting[thread] = frame.f_code, action
                monitoring.set_local_events(self._id, frame.f_code, monitoring.events.INSTRUCTION)
            return True

        def withdraw(self, thread: int) -> bool:
            """Have nothing called in a thread; returns whether something would have been."""
            if thread not in self._waiting:
                return False
            with self._lock:
                code, _ = self._waiting.pop(thread)
                if all(code is not other for other, _ in self._waiting.values()):
                    monitoring.set_local_events(self._id, code, 0)
                if not self._waiting:
                    monitoring.register_callback(self._id, monitoring.events.INSTRUCTION, None)
                    monitoring.free_tool_id(self._id)
            return True

        def _take_id(self) -> bool:
            for id in self._IDS:
                try:
                    monitoring.use_tool_id(id, "offloop")
                except ValueError:  # another tool has it
                    continue
                monitoring.register_callback(id, monitoring.events.INSTRUCTION, self._reached)
                self._id = id
                return True
            return False

        def _reached(self, code: CodeType, offset: int) -> None:
            thread = _thread.get_ident()
            if waiting := self._waiting.get(thread):
                try:
                    waiting[1]()  # first: a signal that comes while the lock is held must find nothing to do
                finally:
                    self.withdraw(thread)

else:

    class Jumps:
        """Nothing is put off: Python 3.11 errs with few loops, and could do it by tracing only."""

        def put_off(self, thread: int, frame: FrameType, action: Callable[[], object]) -> bool:
            """As above: never."""
            return False

        def withdraw(self, thread: int) -> bool:
            """As above: there is nothing."""
            return False


jumps = Jumps()
