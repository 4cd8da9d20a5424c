"""What a worker has to say beside its results: log records and warnings, on their way to the parent.

This part loads in every worker, so it is light.  What needs `logging` is in
`offloop.child.records`, which is loaded right after `logging` itself.
"""

from __future__ import annotations

import os
import sys
import warnings

from offloop.child.afterimport import AfterImport
from offloop.child.filters import Filters
from offloop.wire.cpickle import dumps
from offloop.wire.frames import WARNING

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from offloop.child.records import Records
    from offloop.protocols import TaskContext

    Send = Callable[[int, bytes], None]
    Current = Callable[[], TaskContext | None]

#: The longest text that is forwarded, in characters; of a longer one the beginning is.
MAX_TEXT = 1 << 18
#: How many frames a warning's place is looked for in.
_MAX_DEPTH = 200


def install(send: Send, settings: dict[str, Any] | None, current: Current) -> Forwarding:
    """From now on forward this process's log records and warnings.

    Args:
        send: called with a frame's kind (`LOG` or `WARNING`) and its payload, in
            whatever thread something was said; it does not block.
        settings: the parent's levels and filters, as `offloop.contexts.verbosity`
            describes them; None as long as they are not known.
        current: gives the context of the task that is running where it is called, or None.

    Returns:
        The forwarding, which is to be told what changes.
    """
    forwarding = Forwarding(send, current)
    if settings is not None:
        forwarding.update(settings)
    forwarding.start()
    return forwarding


class Forwarding:
    """Forwards what is logged and warned of; made by `install`."""

    def __init__(self, send: Send, current: Current) -> None:
        self._send = send
        self._current = current
        self._settings: dict[str, Any] | None = None
        self._records: Records | None = None
        self._filters = Filters()
        self._after = AfterImport("logging", self._logging_is_there)
        self._show: Callable[[Any], None] = warnings.__dict__["_showwarnmsg_impl"]

    def start(self) -> None:
        """Begin: with warnings at once, with records as soon as `logging` is imported."""
        # The last of the functions that show a warning: one that the user's code puts
        # in place of `warnings.showwarning`, or of this, goes first.
        warnings.__dict__["_showwarnmsg_impl"] = self._show_warning
        os.register_at_fork(after_in_child=self._let_go)
        self._after.start()

    def look(self) -> None:
        """See whether `logging` was imported in a way that was not noticed; costs 0.1 µs."""
        if self._after.is_waiting:
            self._after.look()

    def update(self, settings: dict[str, Any]) -> None:
        """Take on the parent's levels and filters."""
        self._settings = settings
        self._filters.apply(settings["filters"])
        if self._records is not None:
            self._records.apply(settings)

    def _logging_is_there(self) -> None:
        from offloop.child.records import Records

        self._records = Records(self._send, self._current)
        if self._settings is not None:
            self._records.apply(self._settings)

    def _show_warning(self, message: Any) -> None:
        if message.file is not None or _is_being_caught():  # whoever names a file means that one
            self._show(message)
            return
        try:
            context = self._current()
            said = (
                str(message.message)[:MAX_TEXT],
                _names(message.category),
                message.filename,
                message.lineno,
                _module_of(message.filename, message.lineno),
                context.task_id if context is not None else None,
            )
            self._send(WARNING, dumps(said, 5))
        except Exception:
            self._show(message)  # whatever the user's class does, its warning is not lost

    def _let_go(self) -> None:
        """This is a process that a task forked: it speaks for itself."""
        warnings.__dict__["_showwarnmsg_impl"] = self._show
        if self._records is not None:
            self._records.let_go()


def _is_being_caught() -> bool:
    """Whether `warnings.catch_warnings` keeps what is shown here, as it may from Python 3.14 on."""
    context: Any = warnings.__dict__.get("_get_context")
    return context is not None and context().log is not None


def _names(category: type[Warning]) -> list[str]:
    """A category, and what it derives from, by name: the parent may not know the first of them."""
    return [f"{one.__module__}:{one.__qualname__}" for one in category.__mro__ if issubclass(one, Warning)]


def _module_of(filename: str, line: int) -> str:
    """The module that a warning is about, as filters name it: `warnings` keeps it to itself."""
    frame = sys._getframe(1)
    for _ in range(_MAX_DEPTH):
        if frame.f_code.co_filename == filename and frame.f_lineno == line:
            return str(frame.f_globals.get("__name__") or "<unknown>")
        if frame.f_back is None:
            break
        frame = frame.f_back
    return filename.removesuffix(".py")  # as `warnings.warn_explicit` does
