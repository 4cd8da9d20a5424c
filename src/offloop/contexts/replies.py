"""What a worker process's payloads hold."""

from __future__ import annotations

import pickle
from typing import Any

from offloop.errors import SerializationError
from offloop.wire.codec import ReplyDecoder
from offloop.wire.definitions import Definitions
from offloop.wire.failure import decode_failure
from offloop.wire.frames import BUFFERS, split_buffers


class Replies:
    """Loads one worker's results and failures."""

    def __init__(self, definitions: Definitions) -> None:
        self._decoder = ReplyDecoder(definitions)

    def decode(self, flags: int, payload: bytes | memoryview) -> Any:
        """A task's result; raises what loading the user's objects raises."""
        if not payload:
            return None
        if flags & BUFFERS:
            pickled, buffers = split_buffers(payload)
            return self._decoder.decode(pickled, buffers)
        return self._decoder.decode(payload)

    def decode_failure(self, payload: bytes | memoryview) -> BaseException:
        """The exception that stands for a failure."""
        return decode_failure(pickle.loads(payload), self._decoder.decode)


def unloadable_result(
    flags: int, name_length: int, payload: bytes | memoryview, error: BaseException
) -> SerializationError:
    """The error for a result that can't be loaded in the parent; its type is named behind the pickle."""
    pickled = split_buffers(payload)[0] if flags & BUFFERS else memoryview(payload)
    name = bytes(pickled[len(pickled) - name_length :]).decode(errors="replace")
    of = f" of type {name}" if name else ""
    result = SerializationError(f"a result{of} could not be loaded: {type(error).__name__}: {error}")
    result.__cause__ = error if isinstance(error, Exception) else None
    return result
