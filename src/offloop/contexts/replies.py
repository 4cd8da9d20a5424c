"""What a worker process's payloads hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from time import thread_time
from typing import Any

from offloop.child.faults import unloadable_reply
from offloop.contexts.fetching import Fetches
from offloop.contexts.lending import Lending
from offloop.contexts.loading import LONG, without_collections
from offloop.link import LinkOwner
from offloop.reentry import raise_later
from offloop.wire.codec import ReplyDecoder
from offloop.wire.definitions import Definitions
from offloop.wire.failure import decode_failure
from offloop.wire.frames import BUFFERS, LENT, RAW, ProtocolError, Record, split_buffers


class Replies:
    """Loads one worker's results and failures."""

    #: Whether large bytes are copied bit by bit, and handed on later.
    in_slices = True

    def __init__(self, definitions: Definitions, lending: Lending, fetches: Fetches) -> None:
        self._lending = lending
        self._fetches = fetches
        self._decoder = ReplyDecoder(definitions)
        self._load = self._decoder.load

    def decode(self, flags: int, payload: bytes | memoryview) -> Any:
        """A task's result; raises what loading the user's objects raises."""
        if not payload:
            return None
        if flags & LENT or len(payload) >= LONG:
            return without_collections(lambda: self._decode(flags, payload))
        return self._decode(flags, payload)

    def _decode(self, flags: int, payload: bytes | memoryview) -> Any:
        if flags & LENT:
            return self._decoder.decode(*self._lending.open(payload))
        if flags & BUFFERS:
            return self._decoder.decode(*split_buffers(payload))
        return self._decoder.decode(payload)

    def take_result(self, record: Record, owner: LinkOwner) -> None:
        """Hand on a result, or that it can't be loaded."""
        _, flags, ref, id, start, end, payload = record
        try:
            if not flags and 0 < len(payload) < LONG:
                value = self._load(payload)
            elif flags & RAW and self.in_slices:
                _, (source,) = self._lending.open(payload)
                is_mutable = ref > 0
                self._fetches.begin(source, is_mutable, lambda made: owner.link_result(id, made, start, end))
                return
            else:
                began = thread_time()  # as to be kept from the CPU says nothing of the result
                value = self.decode(flags, payload)
                owner.link_loaded(id, thread_time() - began)
        except BaseException as error:
            problem = unloadable_reply("a result", name_behind(flags, ref, payload), error)
            owner.link_failure(id, problem, start, end)
            if isinstance(error, KeyboardInterrupt):
                raise_later(error)  # other outcomes came along, and wait to be handed on
        else:
            owner.link_result(id, value, start, end)

    def take_item(self, record: Record, owner: LinkOwner) -> None:
        """Hand on an item of a stream.  It may come twice, first out of the living journal."""
        _, flags, ref, id, index, size, payload = record
        sink = owner.link_stream(id)
        if sink is None or index != sink.expected:
            self._lending.exchange.note(record)  # what was lent for it goes back
            return
        try:
            value = self.decode(flags, payload) if flags or not payload else self._load(payload)
        except BaseException as error:
            sink.spoil(unloadable_reply("an item", name_behind(flags, ref, payload), error))
            if isinstance(error, KeyboardInterrupt):
                raise_later(error)
        else:
            sink.put(value, int(size) or len(payload))

    def message(self, payload: bytes | memoryview) -> Callable[[], Any]:
        """A function that gives a channel's message, or raises `SerializationError`."""

        def load() -> Any:
            try:
                return self._decoder.decode(payload)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # user code: it may exit
                raise unloadable_reply("a message", b"", error) from error

        return load

    def decode_failure(self, payload: bytes | memoryview) -> BaseException:
        """The exception that stands for a failure; if that makes no sense, one that says so."""
        try:
            return decode_failure(pickle.loads(payload), self._decoder.decode)
        except Exception as error:
            return unloadable_reply("a failure", b"", error)


def name_behind(flags: int, length: int, payload: bytes | memoryview) -> bytes:
    """The name of a result's type, which stands behind its pickle."""
    try:
        pickled = split_buffers(payload)[0] if flags & BUFFERS else payload
    except ProtocolError:
        return b""
    return bytes(pickled[len(pickled) - length :])
