"""Whether a call comes in the midst of this package's own work, and what is put off because of that.

``asyncio.run`` cancels the main task at Ctrl-C in a signal handler, which may run
between any two instructions of the main thread; and the main task's cancellation is
that of the execution that it awaits.  So may a finaliser that the garbage collector
calls, and what a hostile object does while it is pickled.  None of these may find a
table that is being changed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import NoReturn

_PACKAGE = "offloop."
#: The workers' side: an inline worker's tasks run on top of it, in the middle of nothing of the parent's.
_WORKERS = ("offloop.child.", "offloop.testing.")
#: Calls each callback of asyncio's event loop: nothing beneath it is interrupted by what is above.
_CALLS_BACK = asyncio.Handle._run.__code__


class InUseError(RuntimeError):
    """Somebody else waits for this map's results, or this stream's items, and is not to be disturbed."""


def is_amidst_own_work() -> bool:
    """Whether whoever called the caller runs on top of code of this package that called something else.

    It costs some 50 ns for each frame down to the event loop.
    """
    frame = sys._getframe(2)
    through_others = False
    while frame.f_code is not _CALLS_BACK:
        name = str(frame.f_globals.get("__name__"))
        is_own = name.startswith(_PACKAGE) and not name.startswith(_WORKERS)
        if is_own and through_others:
            return True
        through_others = through_others or not is_own
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def raise_later(error: BaseException) -> None:
    """Have the running event loop raise an error by itself, not in the midst of what is being done here."""
    asyncio.get_running_loop().call_soon(_raise, error)


def _raise(error: BaseException) -> NoReturn:
    raise error
