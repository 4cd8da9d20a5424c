"""Every error that offloop raises, in one tree.

Errors carry facts as attributes, and survive pickling with them: an error may
cross from a worker to its parent, and from there on through a user's own
process boundary.  This module imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


class OffloopError(Exception):
    """The root of offloop's own errors."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """Make an error anew without calling its ``__init__``, whose signature may differ from ``args``."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class StatusError(OffloopError):
    """A worker or pool was asked for something that its state does not allow."""


class QueueFull(OffloopError):
    """A pool's ``queue_limit`` is reached; ``await pool.wait_for_room()`` waits."""


class SerializationError(OffloopError):
    """A task, an argument or a result could not be pickled, or not be loaded at the other end.

    Attributes:
        loading: whether it was pickled, and could not be loaded.
    """

    loading = False


class ChannelClosed(OffloopError):
    """The other end of a channel is gone, and nothing is left to receive."""


class TaskFailed(OffloopError):
    """A task failed with an exception that could not be handed over as itself.

    Attributes:
        type_name: qualified name of the exception's type, such as ``"mylib.Broken"``.
        message: its text.
        traceback: the worker's formatted traceback.
    """

    def __init__(self, type_name: str, message: str, traceback: str = "") -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback


class TaskTimeout(OffloopError, TimeoutError):
    """A task ran longer than the ``timeout`` it was enqueued with."""


class WorkerError(OffloopError):
    """A worker, rather than the task, failed."""


class WorkerCrashed(WorkerError):
    """A worker died while it was running this task.

    Attributes:
        pid: process id, or None where the worker was no process.
        exit_code: exit status, minus the signal number, or None if unknown.
        signal: the signal's name, such as ``"SIGSEGV"``, or None.
        task: a short text naming the task that was running.
        stack: the dying worker's Python stack, where a fatal signal left one; offloop's
            own frames are left out.
        peak_rss: its highest resident memory, in bytes, or None where that is unknown.
        out_of_memory: whether the kernel's OOM killer did it: True if the counter of
            its victims rose, False if not (or if it was no SIGKILL), None if unknown.
        output: the tail of what the worker's Python code wrote to stderr.
    """

    def __init__(
        self,
        message: str = "The worker crashed",
        *,
        pid: int | None = None,
        exit_code: int | None = None,
        signal: str | None = None,
        task: str | None = None,
        stack: str | None = None,
        peak_rss: int | None = None,
        out_of_memory: bool | None = None,
        output: str = "",
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.task = task
        self.stack = stack
        self.peak_rss = peak_rss
        self.out_of_memory = out_of_memory
        self.output = output


class WorkerKilled(WorkerError):
    """The worker or its pool was killed by ``kill()`` while this task was outstanding."""


class WorkerStartError(WorkerError):
    """A worker could not start; the worker's own traceback is in ``traceback`` and the message.

    Of one that ended without a word it is the end of what it wrote to stderr.
    """

    def __init__(self, message: str = "The worker could not start", traceback: str = "") -> None:
        super().__init__(f"{message}\n\n{traceback}".rstrip() if traceback else message)
        self.traceback = traceback


class RemoteTraceback(Exception):
    """The ``__cause__`` of an exception that a task raised: where it was raised, in the worker."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{_with_source(self.text).rstrip()}\n"""'

    @property
    def tb(self) -> str:
        """The text, under the name and in the form that `concurrent.futures` has for it."""
        return str(self)


class TaskCancelled(BaseException):
    """Raised inside a running synchronous task that is cancelled, so that its ``finally`` blocks run."""


def _with_source(text: str) -> str:
    """A traceback with lines of code that a worker does not have: those of a notebook, or a REPL."""
    import linecache
    import re

    # `exec` gives each piece of code the same name, and that of `python -c` too.
    names = {*linecache.cache} - {"<string>", "<stdin>"}
    before = text.split("\n")
    after: list[str] = []
    for at, line in enumerate(before):
        after.append(line)
        frame = re.match(r'  File "(.+)", line (\d+), in ', line)
        has_source = "".join(before[at + 1 : at + 2]).startswith("    ")
        if frame is not None and not has_source and frame[1] in names:
            source = linecache.getline(frame[1], int(frame[2])).strip()
            if source:
                after.append(f"    {source}")
    return "\n".join(after)
