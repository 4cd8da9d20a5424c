"""Workers within workers: how deep, and not while one only loads what it is to run.

A module that starts a pool when it is imported would do so in each worker that
imports it, whose workers would import it again, without end.
"""

from __future__ import annotations

import os
import sys

#: How many workers, one within the other, this process is; 0 where it is none.
depth = 0
#: Deeper than this nobody means to go.
MAX_DEPTH = 10

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_IMPORTS = "<frozen importlib._bootstrap"


def refuse_while_loading() -> None:
    """Raise an error that names the module, where a worker is about to start workers by loading a task."""
    module = _module_being_loaded()
    if module is not None:
        raise RuntimeError(
            f"module {module!r} starts workers when it is imported, and a worker was importing it to find "
            'what to run: put that part of it under if __name__ == "__main__":'
        )


def _module_being_loaded() -> str | None:
    """The module whose import, for the sake of a task, called this; None where a task or a program did."""
    if not depth:
        return None
    frame, module, is_importing = sys._getframe(1), "", False
    while frame.f_back is not None:
        code = frame.f_code
        if code.co_filename.startswith(_IMPORTS):
            is_importing = True
        elif code.co_name == "<module>":
            module = str(frame.f_globals.get("__name__"))
        elif is_importing and code.co_filename.startswith(_OURS):
            # What is ours and imports is loading a task; a task that imports has code of its own in between.
            return module
        elif "cloudpickle" not in code.co_filename:  # which imports on behalf of what it loads
            is_importing = False
        frame = frame.f_back
    return None
