"""What a worker process's payloads hold."""

from __future__ import annotations

import pickle
from typing import Any

from offloop.contexts.lending import Lending
from offloop.errors import SerializationError
from offloop.wire.codec import ReplyDecoder
from offloop.wire.definitions import Definitions
from offloop.wire.failure import decode_failure
from offloop.wire.frames import BUFFERS, LENT, split_buffers


class Replies:
    """Loads one worker's results and failures."""

    def __init__(self, definitions: Definitions, lending: Lending) -> None:
        self._lending = lending
        self._decoder = ReplyDecoder(definitions)

    def decode(self, flags: int, payload: bytes | memoryview) -> Any:
        """A task's result; raises what loading the user's objects raises."""
        if not payload:
            return None
        if flags & LENT:
            self._lending.used()
            return self._decoder.decode(*self._lending.exchange.open(payload))
        if flags & BUFFERS:
            return self._decoder.decode(*split_buffers(payload))
        return self._decoder.decode(payload)

    def decode_failure(self, payload: bytes | memoryview) -> BaseException:
        """The exception that stands for a failure."""
        return decode_failure(pickle.loads(payload), self._decoder.decode)


def name_behind(flags: int, length: int, payload: bytes | memoryview) -> bytes:
    """The name of a result's type, which stands behind its pickle."""
    pickled = split_buffers(payload)[0] if flags & BUFFERS else payload
    return bytes(pickled[len(pickled) - length :])


def unloadable_result(name: bytes, error: BaseException) -> SerializationError:
    """The error for a result of the type called ``name`` that can't be loaded in the parent."""
    of = f" of type {name.decode(errors='replace')}" if name else ""
    result = SerializationError(f"a result{of} could not be loaded: {type(error).__name__}: {error}")
    result.__cause__ = error if isinstance(error, Exception) else None
    return result
