"""What is said of a worker that died, and of a task that it could not load."""

from __future__ import annotations

import re
from signal import Signals
from typing import TYPE_CHECKING, Any

from offloop.errors import SerializationError, WorkerCrashed
from offloop.link import Exit
from offloop.task import describe, module_of
from offloop.wire.tracebacks import brief

if TYPE_CHECKING:
    from offloop.protocols import TaskLike

#: The most characters of the last line on stderr that the message quotes.
MAX_QUOTE = 200

#: Between the frames of a task and the bottom of a worker's stack, all frames are offloop's own.
_RUNS_TASKS = re.compile(r'/offloop/child/(runner|overlap|chunk|port|process|control)\.py", line ')
#: In front of a thread's frames.  Without the GIL only the current one is shown, without its name.
_HEAD = re.compile(r"(<.*>\n)?(?P<kind>Current thread|Thread|Stack) (0x|\(most recent).*:\n")
_OWN = re.compile(r'/offloop/(child|wire|environment)/\w+\.py", line ')


def crash_report(exit: Exit, number: int, task: TaskLike[Any] | None) -> WorkerCrashed:
    """The error for what a dead worker was running.

    Args:
        exit: how it ended.
        number: the worker's number within its pool.
        task: the task that was running, or None where none was.

    Returns:
        The error, whose message says the most important of it; a Python stack
        is also among its notes, so that a traceback shows it.
    """
    stack = user_stack(exit.stack) if exit.stack else None
    report = WorkerCrashed(
        _message(exit, number, task, stack),
        pid=exit.pid,
        exit_code=exit.code,
        signal=_signal(exit),
        task=describe(task) if task is not None else None,
        stack=stack,
        peak_rss=exit.peak_rss,
        out_of_memory=exit.out_of_memory,
        output=exit.output,
    )
    if stack is not None:
        report.add_note(f"The worker's stack:\n{stack}")
    return report


def _message(exit: Exit, number: int, task: TaskLike[Any] | None, stack: str | None) -> str:
    signal = _signal(exit)
    if signal is not None:
        how = f"was killed by {signal}"
    elif exit.reason is not None:
        how = f"was lost ({exit.reason})"
    else:
        how = f"exited with code {exit.code}" if exit.code is not None else "disappeared"
    who = f"worker {exit.pid if exit.pid is not None else number} {how}"
    parts = [who if task is None else f"{who} while running {describe(task)}"]
    if exit.reason is not None and signal is not None:
        parts.append(exit.reason)
    if exit.out_of_memory:
        parts.append("the kernel's OOM killer was active")
    if exit.peak_rss is not None:
        parts.append(f"peak memory {human_size(exit.peak_rss)}")
    if stack is not None:
        parts.append("its Python stack is in .stack")
    lines = exit.output.split("\n") if exit.output else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if last:
        parts.append(f"last on stderr: {last if len(last) <= MAX_QUOTE else last[: MAX_QUOTE - 1] + '…'}")
    return "; ".join(parts)


def _signal(exit: Exit) -> str | None:
    """The name of the signal that ended the worker, or None."""
    if exit.code is None or exit.code >= 0:
        return None
    try:
        return Signals(-exit.code).name
    except ValueError:
        return f"signal {-exit.code}"


def human_size(count: int) -> str:
    """A number of bytes for people, such as ``3.1 GiB``."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1000 and len(units) > 1:
        size /= 1024
        del units[0]
    return f"{size:.1f} {units[0]}" if size < 100 and units[0] != "bytes" else f"{size:.0f} {units[0]}"


def user_stack(text: str) -> str:
    """What faulthandler wrote, without the frames that are offloop's own.

    Threads that only ran offloop's code are left out.  A current thread that
    did is shown whole: then that is where it died.
    """
    blocks = text.rstrip().split("\n\n")
    kept = [block if _is_whole(block) else _without_own_frames(block) for block in blocks]
    return "\n\n".join(block for block in kept if block)


def _is_whole(block: str) -> bool:
    """Whether a block is no thread's Python stack."""
    return not _HEAD.match(block)


def _without_own_frames(block: str) -> str:
    """One thread's stack up to where offloop called the user's code; empty if it never did."""
    head = _HEAD.match(block)
    assert head is not None, "it is a thread's"
    frames = block[head.end() :].split("\n")
    ours = next((at for at, line in enumerate(frames) if _RUNS_TASKS.search(line)), len(frames))
    while ours and ours < len(frames) and _OWN.search(frames[ours - 1]):
        ours -= 1
    if ours:
        return head.group() + "\n".join(frames[:ours])
    return "" if head["kind"] == "Thread" else block


def unloadable_task(task: TaskLike[Any], error: BaseException) -> SerializationError:
    """The error for a task that can't be loaded in a worker; it names the task."""
    origin = module_of(task)
    home = f" of module {origin}" if origin else ""
    text = f"{describe(task)}{home} could not be loaded in the worker: {brief(error)}"
    if isinstance(error, ImportError):
        text += "; a worker imports it anew, with the sys.path of this process"
    result = SerializationError(text)
    result.loading = True
    result.__cause__ = error
    return result
