"""How tasks become frames on a worker's socket."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context
from time import monotonic
from typing import Any

from offloop.child import layout
from offloop.child.layout import JOIN, QUICK, Copy, LargeBuffers, Part, shared, shared_call
from offloop.contexts.imports import PathWatch, path_entries
from offloop.contexts.lending import Lending
from offloop.contexts.outbox import Line
from offloop.contexts.verbosity import verbosity
from offloop.errors import SerializationError
from offloop.link import S, Sendable
from offloop.task import describe
from offloop.wire.carrying import ContextEncoder
from offloop.wire.codec import Encoder
from offloop.wire.cpickle import dumps
from offloop.wire.definitions import Definitions
from offloop.wire.frames import (
    CALL,
    CALL_ARGS,
    CONTEXT,
    DEFINE,
    FORGET,
    HEADER,
    MAGIC,
    PATH,
    RUN,
    SETUP,
    VERBOSITY,
    frame,
)
from offloop.wire.pickling import ATOMS, PROTOCOL
from offloop.wire.tracebacks import brief

#: Pickling that takes no longer, in seconds, is not worth mentioning.
MOMENT = 0.0002
#: Seconds that a byte takes to be copied into a segment: 0.1 ns where its pages are warm, and 0.7 where not.
#: So of tasks with large arguments few are in a hand: else a gather of 40 arrays of 20 MB had as many
#: segments, all of fresh pages, and took 4 to 38 times as long as the same one after the other.
COPYING = 0.25e-9


class Sender:
    """Pickles one worker's tasks and writes them in order, each with its place in that order."""

    #: Arguments of up to so many bytes pass by `_add_pickled`, if they are numbers and texts.
    inlined = JOIN

    def __init__(self, outbox: Line, definitions: Definitions, lending: Lending) -> None:
        self._outbox = outbox
        self._lending = lending
        self._parts: list[Part] = []  # whole parts, in front of what `_small` gathers
        self._small: list[bytes | memoryview] = []  # parts that go out as one
        self._encoder = Encoder(definitions, self._define, self._forget)
        self._contexts = ContextEncoder(self._encoder.encode, definitions.importable)
        self._path = PathWatch()
        self._path.has_changed()  # what it is now goes with the setup
        self._verbosity = 0
        self._sent = 0

    def setup(self, options: dict[str, Any]) -> None:
        """Send the first frame."""
        payload = self._encoder.encode(options)
        self._verbosity = options["verbosity"]["version"]
        self._write(frame(SETUP, payload))
        self._flush()

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Send tasks; returns those that can't be pickled, with the errors."""
        self._add_news()
        failed: list[tuple[S, BaseException]] = []
        reference, pack, contexts, small = self._encoder.reference, HEADER.pack, self._contexts, self._small
        for item in items:
            fn = item.fn
            try:
                if fn is None or not (ref := reference(fn)):
                    self._add(RUN, 0, item, item.task)
                elif item.kwargs:
                    self._add(CALL, ref, item, shared_call(item.args, item.kwargs))
                elif (args := item.args) and not _are_atoms(args):
                    self._add(CALL_ARGS, ref, item, shared(args))
                else:
                    payload = dumps(args, PROTOCOL) if args else b""
                    if (size := len(payload)) > self.inlined:
                        self._add_pickled(CALL_ARGS, ref, item, payload)
                    else:
                        if item.context is not contexts.last and not contexts.is_same(item.context):
                            self._change_context(item.context)
                        kind = CALL_ARGS if args else CALL
                        small.append(
                            pack(MAGIC, kind, item.flags, ref, item.id, size, item.attempt, item.cost)
                        )
                        if size:
                            small.append(payload)
            except BaseException as error:
                self._encoder.give_up()
                failed.append((item, unpicklable_task(item.task, error)))
            else:
                self._sent = item.place = self._sent + 1
        self._flush()
        if contexts.last is not None:
            contexts.doubt()
        return failed

    def _add_news(self) -> None:
        """Put what the worker has to know of in front of the next tasks."""
        if self._path.has_changed():
            self._write(frame(PATH, self._encoder.encode(path_entries())))
        if verbosity.version() != self._verbosity:
            settings = verbosity.settings()
            self._verbosity = settings["version"]
            self._write(frame(VERBOSITY, self._encoder.encode(settings)))
        if self._lending.exchange.has_news:
            for told in self._lending.exchange.settle():
                self._write(told)

    def _flush(self) -> None:
        self._join()
        self._outbox.write(self._parts)
        self._parts.clear()

    def _join(self) -> None:
        if self._small:
            self._parts.append(b"".join(self._small))
            self._small.clear()

    def _add(self, kind: int, ref: int, item: Sendable, content: object) -> None:
        buffers = LargeBuffers()
        began = monotonic()
        pickled = self._encoder.encode(content, buffers.take)
        if (seconds := monotonic() - began) > MOMENT:
            item.pickling = seconds
        self._add_pickled(kind, ref, item, pickled, buffers)

    def _add_pickled(
        self, kind: int, ref: int, item: Sendable, pickled: bytes, buffers: Sequence[memoryview] = ()
    ) -> None:
        contexts = self._contexts
        if item.context is not contexts.last and not contexts.is_same(item.context):
            self._change_context(item.context)
        size = len(pickled)
        if not buffers and size < layout.THRESHOLD:
            self._small.append(
                HEADER.pack(MAGIC, kind, item.flags, ref, item.id, size, item.attempt, item.cost)
            )
            self._write(pickled)
            return
        self._lending.used()
        item.copying = sum([len(pickled), *(part.nbytes for part in buffers)]) * COPYING
        flags, size, parts = self._lending.exchange.lay_out(pickled, buffers)
        for part in self._lending.exchange.take_before():
            self._write(part)
        self._small.append(
            HEADER.pack(MAGIC, kind, flags | item.flags, ref, item.id, size, item.attempt, item.cost)
        )
        for part in parts:
            self._write(part)

    def _change_context(self, context: Context | None) -> None:
        """Have the tasks behind this run in another context."""
        payload = self._contexts.change_to(context)
        if payload is not None:
            self._write(frame(CONTEXT, payload))

    def _write(self, part: Part) -> None:
        if isinstance(part, (bytes, memoryview)) and len(part) <= JOIN:
            self._small.append(part)
            return
        if isinstance(part, Copy) and len(part.source) <= QUICK:
            self._parts.append(part)  # in front of what `_small` holds, which so stays one message
            return
        self._join()
        self._parts.append(part)

    def _define(self, ref: int, payload: bytes) -> None:
        self._small.append(HEADER.pack(MAGIC, DEFINE, 0, ref, 0, len(payload), 0.0, 0.0))
        self._write(payload)

    def _forget(self, ref: int) -> None:
        self._write(frame(FORGET, ref=ref))
        if self._contexts.last is not None:
            self._contexts.doubt()  # a value may refer to what was forgotten


def _are_atoms(values: tuple[Any, ...]) -> bool:
    for value in values:  # noqa: SIM110 - a generator for `all` costs more than the values
        if type(value) not in ATOMS:
            return False
    return True


def unpicklable_task(task: Any, error: BaseException) -> SerializationError:
    """The error for a task that can't be pickled; it names the task."""
    result = SerializationError(f"{describe(task)} can't be pickled: {brief(error)}")
    result.__cause__ = error if isinstance(error, (Exception, KeyboardInterrupt)) else None
    return result
