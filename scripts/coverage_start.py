"""What `scripts/coverage` has every Python process do at its start: see to it that templates are counted.

Coverage starts itself in each interpreter that runs ``site``.  A template process,
and a worker started without one, runs without it, so it gets the start in its code.
The workers that a template forks inherit it, and save what they counted as they exit.
"""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
from typing import Any

#: What tells the code of a template, or of a worker started alone, from what tests run without ``site``.
_MARK = "offloop.child.template"


def start_by_hand() -> None:
    """Start coverage in a process that runs without ``site``."""
    try:
        import coverage
    except FileNotFoundError:
        return  # the working directory was deleted, where coverage can't be imported: run uncounted

    coverage.process_startup()
    follow()


def follow() -> None:
    """Have interpreters that this process starts without ``site`` be counted too."""
    _follow_threads()
    started = subprocess.Popen.__init__

    def start(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        started(self, _counted(args), *rest, **options)

    subprocess.Popen.__init__ = start  # type: ignore[method-assign]


def _follow_threads() -> None:
    """Count in threads that `threading` knows nothing of; those that it starts are coverage's own affair."""
    import threading

    start_new_thread = _thread.start_new_thread

    def start(function: Any, args: Any, kwargs: Any = None) -> int:
        def run() -> None:
            if sys.gettrace() is None:
                sys.settrace(threading.gettrace())
            function(*args, **kwargs or {})

        return start_new_thread(run, ())

    _thread.start_new_thread = start


def _counted(args: Any) -> Any:
    if not isinstance(args, list) or "-S" not in args or "-c" not in args:
        return args
    code = args.index("-c") + 1
    if _MARK not in args[code]:
        return args
    places = [os.path.dirname(__file__), os.path.dirname(_coverage_package())]
    start = (
        f"import sys; sys.path[:0] = {places!r}; import coverage_start; coverage_start.start_by_hand(); "
        f"del sys.path[:{len(places)}]; "
    )
    return [*args[:code], start + args[code], *args[code + 1 :]]


def _coverage_package() -> str:
    import coverage

    return os.path.dirname(coverage.__file__)
