"""Where a task is right now, as text: what the control thread answers to a question for it."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from offloop.child.runner import Runner

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
#: The attributes by which one suspended coroutine, generator or async generator leads to the next.
_CHAIN = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


def stack_of(runner: Runner, id: int) -> str:
    """The stack of task ``id``, most recent call last; "" if it does not run.

    Called on another thread than the task's.
    """
    record = runner.record
    if record is not None and record[3] == id:
        return as_text(_running_frames(runner.turns.thread))
    task = runner.async_tasks.get(id)
    if task is None:
        return ""
    asyncio = sys.modules["asyncio"]
    if asyncio.current_task(task.get_loop()) is task:
        return as_text(_running_frames(runner.turns.thread))
    return as_text(_suspended_frames(task.get_coro()))


def _running_frames(thread: int) -> list[FrameType]:
    """The frames of a thread, outermost first."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _suspended_frames(awaited: Any) -> list[FrameType]:
    """The frames of a coroutine that waits, and of what it waits for."""
    frames: list[FrameType] = []
    while awaited is not None:
        for frame_name, next_name in _CHAIN:
            frame = getattr(awaited, frame_name, None)
            if frame is not None:
                frames.append(frame)
                awaited = getattr(awaited, next_name)
                break
        else:
            # An async generator's step does not say whose it is; but who takes the steps knows.
            awaited = _items_of(frames[-1]) if frames else None
    return frames


def _items_of(frame: FrameType) -> Any:
    """What a function of this library steps through; in a comprehension it has another name."""
    if not frame.f_code.co_filename.startswith(_OURS):
        return None
    items = frame.f_locals.get("items")  # a user's object: nothing of it is called
    return items if items is not None else frame.f_locals.get(".0")


def as_text(frames: list[FrameType]) -> str:
    """The user's part of a stack: without what called it, and what it calls, of this library."""
    import traceback

    ours = [frame.f_code.co_filename.startswith(_OURS) for frame in frames]
    end = len(frames)
    while end and ours[end - 1]:
        end -= 1
    if any(frame.f_code.co_name == "run_task" for frame in frames[end:]):
        return ""  # it called a function in C, which has no frame: what is left called the worker
    begin = max((at for at in range(end) if ours[at]), default=-1) + 1
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames[begin:end])
    return "".join(summary.format())
