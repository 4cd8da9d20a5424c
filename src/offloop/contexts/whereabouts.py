"""A worker thread seen from outside: where its code is."""

from __future__ import annotations

import os
import sys
import threading

from offloop.child.runner import Runner

_OURS = os.path.dirname(Runner.run_task.__code__.co_filename)


def where_it_is(thread: threading.Thread) -> tuple[str, int]:
    """The file and line at which a worker thread's synchronous task is now, for a warning to point at."""
    frame = sys._current_frames().get(thread.ident or 0)
    place = nowhere = (thread.name, 1)
    while frame is not None and frame.f_code is not Runner.run_task.__code__:
        if os.path.dirname(frame.f_code.co_filename) != _OURS:  # the runner's own frames lie between
            place = (frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return place if frame is not None else nowhere
