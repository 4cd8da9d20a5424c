"""Loading pickles, long ones without collections of garbage in between.

What is being loaded can't be garbage, but each collection looks at it.
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

    Args:
        data: the message.
        buffers: what `pickle.loads` calls by that name.

    Raises:
        Exception: whatever unpickling raises.
    """
    if len(data) < LONG or not gc.isenabled():
        return loads(data, buffers=buffers)
    try:
        gc.disable()
        return loads(data, buffers=buffers)
    finally:
        gc.enable()
