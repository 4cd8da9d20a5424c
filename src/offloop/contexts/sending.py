"""How tasks become frames on a worker's socket."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pickle import PickleBuffer
from typing import Any

from offloop.contexts.outbox import Outbox
from offloop.errors import SerializationError
from offloop.link import S, Sendable
from offloop.task import CallableTask, describe
from offloop.wire.codec import Encoder
from offloop.wire.definitions import Definitions
from offloop.wire.frames import (
    ATTEMPT_SHIFT,
    BUFFERS,
    CALL,
    DEFINE,
    FORGET,
    HEADER,
    MAGIC,
    PATH,
    RUN,
    SETUP,
    frame,
    layout_buffers,
)


class Sender:
    """Pickles one worker's tasks and writes them in order, each with its place in that order."""

    def __init__(self, outbox: Outbox, definitions: Definitions) -> None:
        self._outbox = outbox
        self._parts: list[bytes | memoryview] = []
        self._encoder = Encoder(definitions, self._define, self._forget)
        self._path = list(sys.path)
        self._sent = 0

    def setup(self, options: dict[str, Any]) -> None:
        """Send the first frame."""
        payload = self._encoder.encode(options)
        self._parts.append(frame(SETUP, payload))
        self._flush()

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Send tasks; returns those that can't be pickled, with the errors."""
        if sys.path != self._path:
            self._path = list(sys.path)
            self._parts.append(frame(PATH, self._encoder.encode(self._path)))
        failed: list[tuple[S, BaseException]] = []
        for item in items:
            try:
                self._add(item)
            except BaseException as error:
                failed.append((item, unpicklable_task(item.task, error)))
                if isinstance(error, KeyboardInterrupt):
                    raise
        self._flush()
        return failed

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        self._outbox.write(parts)

    def _add(self, item: Sendable) -> None:
        id, task = item.id, item.task
        kind, ref, pickled = RUN, 0, b""
        buffers: list[PickleBuffer] = []
        if type(task) is CallableTask:
            ref = self._encoder.reference(task.fn)
            if ref:
                kind = CALL
                if task.args or task.kwargs:
                    pickled = self._encoder.encode((task.args, task.kwargs), buffers.append)
            else:
                pickled = self._encoder.encode(task, buffers.append)
        else:
            pickled = self._encoder.encode(task, buffers.append)
        attempt = min(item.attempt, 127) << ATTEMPT_SHIFT
        self._sent += 1
        item.place = self._sent
        if buffers:
            parts = layout_buffers(pickled, [buffer.raw() for buffer in buffers])
            size = sum(len(part) for part in parts)
            self._parts.append(HEADER.pack(MAGIC, kind, BUFFERS | attempt, ref, id, size, 0.0, 0.0))
            self._parts += parts
        else:
            self._parts.append(HEADER.pack(MAGIC, kind, attempt, ref, id, len(pickled), 0.0, 0.0))
            if pickled:
                self._parts.append(pickled)

    def _define(self, ref: int, payload: bytes) -> None:
        self._parts.append(frame(DEFINE, payload, ref=ref))

    def _forget(self, ref: int) -> None:
        self._parts.append(frame(FORGET, ref=ref))


def unpicklable_task(task: Any, error: BaseException) -> SerializationError:
    """The error for a task that can't be pickled; it names the task."""
    result = SerializationError(f"{describe(task)} can't be pickled: {type(error).__name__}: {error}")
    result.__cause__ = error if isinstance(error, Exception) else None
    return result
