"""Unpickling, with no garbage collection in the midst of a long pickle.

What is just being made can't be garbage, yet each collection looks at it, and
one is due every 700 objects: for 50,000 dictionaries within each other they
took half of the time.  Nothing is left out, only put off until the pickle is
loaded.
"""

from __future__ import annotations

import gc

from offloop.wire.cpickle import loads

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

#: Bytes of a pickle from which on it may hold many objects.
LONG = 4096


def load(data: bytes | memoryview, buffers: tuple[Any, ...]) -> Any:
    """Unpickle a message.

    The collector stays off where the program has turned it off.  What a thread, or a user's
    ``__setstate__``, does to it in the meantime does not last.

    Args:
        data: the message.
        buffers: what `pickle.loads` calls by that name.

    Raises:
        Exception: whatever unpickling raises.
    """
    if len(data) < LONG or not gc.isenabled():
        return loads(data, buffers=buffers)
    try:
        gc.disable()  # in here, as an interrupt may come right after it
        return loads(data, buffers=buffers)
    finally:
        gc.enable()
