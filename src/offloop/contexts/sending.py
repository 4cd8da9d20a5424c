"""How tasks become frames on a worker's socket."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pickle import PickleBuffer
from typing import Any

from offloop.child.exchange import THRESHOLD, Part, shared, shared_values
from offloop.contexts.lending import Lending
from offloop.contexts.outbox import Outbox
from offloop.errors import SerializationError
from offloop.link import S, Sendable
from offloop.task import CallableTask, describe
from offloop.wire.codec import Encoder
from offloop.wire.definitions import Definitions
from offloop.wire.frames import (
    CALL,
    CALL_ARGS,
    DEFINE,
    FORGET,
    HEADER,
    MAGIC,
    PATH,
    RUN,
    SETUP,
    frame,
)

#: Parts up to this size, in bytes, are copied into one; larger ones go out as they are.
JOIN = 1 << 14


class Sender:
    """Pickles one worker's tasks and writes them in order, each with its place in that order."""

    def __init__(self, outbox: Outbox, definitions: Definitions, lending: Lending) -> None:
        self._outbox = outbox
        self._lending = lending
        self._parts: list[Part] = []  # whole parts, in front of what `_small` gathers
        self._small = bytearray()
        self._encoder = Encoder(definitions, self._define, self._forget)
        self._path = list(sys.path)
        self._sent = 0

    def setup(self, options: dict[str, Any]) -> None:
        """Send the first frame."""
        payload = self._encoder.encode(options)
        self._write(frame(SETUP, payload))
        self._flush()

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Send tasks; returns those that can't be pickled, with the errors."""
        if sys.path != self._path:
            self._path = list(sys.path)
            self._write(frame(PATH, self._encoder.encode(self._path)))
        failed: list[tuple[S, BaseException]] = []
        reference, pack = self._encoder.reference, HEADER.pack
        for item in items:
            task = item.task
            try:
                if type(task) is not CallableTask or not (ref := reference(task.fn)):
                    self._add(RUN, 0, item, task)
                elif task.kwargs:
                    self._add(CALL, ref, item, (shared(task.args), shared_values(task.kwargs)))
                elif task.args:
                    self._add(CALL_ARGS, ref, item, shared(task.args))
                else:
                    self._small += pack(MAGIC, CALL, 0, ref, item.id, 0, item.attempt, 0.0)
            except BaseException as error:
                failed.append((item, unpicklable_task(task, error)))
                if isinstance(error, KeyboardInterrupt):
                    raise
            else:
                self._sent = item.place = self._sent + 1
        self._flush()
        return failed

    def _flush(self) -> None:
        if self._small:
            self._parts.append(bytes(self._small))
            self._small.clear()
        self._outbox.write(self._parts)
        self._parts.clear()

    def _add(self, kind: int, ref: int, item: Sendable, content: object) -> None:
        buffers: list[memoryview] = []

        def take(buffer: PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= THRESHOLD:
                buffers.append(raw)
            return raw.nbytes < THRESHOLD

        pickled = self._encoder.encode(content, take)
        size = len(pickled)
        if not buffers and size < THRESHOLD:
            self._small += HEADER.pack(MAGIC, kind, 0, ref, item.id, size, item.attempt, 0.0)
            self._write(pickled)
            return
        self._lending.used()
        flags, size, parts = self._lending.exchange.lay_out(pickled, buffers)
        for part in self._lending.exchange.take_before():
            self._write(part)
        self._small += HEADER.pack(MAGIC, kind, flags, ref, item.id, size, item.attempt, 0.0)
        for part in parts:
            self._write(part)

    def _write(self, part: Part) -> None:
        if isinstance(part, (bytes, memoryview)) and len(part) <= JOIN:
            self._small += part
            return
        if self._small:
            self._parts.append(bytes(self._small))
            self._small.clear()
        self._parts.append(part)

    def _define(self, ref: int, payload: bytes) -> None:
        self._write(frame(DEFINE, payload, ref=ref))

    def _forget(self, ref: int) -> None:
        self._write(frame(FORGET, ref=ref))


def unpicklable_task(task: Any, error: BaseException) -> SerializationError:
    """The error for a task that can't be pickled; it names the task."""
    result = SerializationError(f"{describe(task)} can't be pickled: {type(error).__name__}: {error}")
    result.__cause__ = error if isinstance(error, Exception) else None
    return result
