"""Loading what workers send, with no garbage collection in the midst of much.

What is just being made can't be garbage, yet each collection looks at it, and
one is due every 700 objects: for 50,000 dictionaries within each other they
took half of the time.  Nothing is left out, only put off until all is loaded.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Bytes of a pickle from which on it may hold many objects.
LONG = 4096

_is_paused = False


def without_collections(load: Callable[[], T]) -> T:
    """Call a function with the collector switched off.

    It stays off where the program has switched it off before.  What a thread does to it
    in the meantime, or the user's code that is called here, does not last.
    """
    global _is_paused
    if not gc.isenabled():
        return load()
    try:
        gc.disable()  # in here, as an interrupt may come right after it
        _is_paused = True
        return load()
    finally:
        gc.enable()
        _is_paused = False


def _resume_in_child() -> None:
    """A process that another thread forks meanwhile has nobody to switch the collector on again."""
    if _is_paused:
        gc.enable()


os.register_at_fork(after_in_child=_resume_in_child)
