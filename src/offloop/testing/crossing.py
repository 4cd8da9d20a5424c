"""What pickling does to a task and its outcome on the way to a process worker and back, without the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from offloop.child.faults import unloadable, unloadable_reply, unpicklable
from offloop.child.keeping import Pickled
from offloop.child.port import PLAIN
from offloop.contexts.doorbell import Ring
from offloop.contexts.imports import importable
from offloop.contexts.sharing import as_seen_by_parent
from offloop.contexts.thread_port import Call, Captured, ThreadPort
from offloop.crashreport import unloadable_task
from offloop.errors import TaskFailed
from offloop.link import Sendable
from offloop.task import CallableTask
from offloop.wire.codec import Decoder, Encoder, ReplyDecoder, ReplyEncoder
from offloop.wire.cpickle import dumps
from offloop.wire.definitions import Definitions
from offloop.wire.failure import Failure, decode_failure, encode_failure
from offloop.wire.frames import FAILED, MESSAGE, RESULT, Record
from offloop.wire.pickling import PROTOCOL
from offloop.wire.tracebacks import message_of, own_text, type_name_of


def new_definitions() -> Definitions:
    """What the workers of one pool share: the functions and classes they were told about."""
    return Definitions(importable)


class Crossing:
    """Both ends of one worker's conversation: what goes in at one comes out at the other.

    It uses the same encoders and decoders as a process worker.

    Args:
        definitions: those of the worker's pool.
    """

    def __init__(self, definitions: Definitions) -> None:
        self._forgotten: list[int] = []
        self._decoder = Decoder()
        self._encoder = Encoder(definitions, self._decoder.define, self._forgotten.append)
        self._replies = ReplyEncoder(self._decoder)
        self._reply_decoder = ReplyDecoder(definitions)

    def pack(self, value: Any) -> tuple[bytes, list[int]]:
        """Pickle what goes to the worker; raises what that raises.

        Returns:
            The pickle, and the definitions that may be forgotten once all that
            was packed before is unpacked.
        """
        payload = self._encoder.encode(value)
        forgotten = self._forgotten[:]
        self._forgotten.clear()
        return payload, forgotten

    def unpack(self, packed: tuple[bytes, list[int]]) -> Any:
        """Load what `pack` made, in the order in which it was packed; raises what that raises."""
        self.forget(packed)
        return self._decoder.decode(packed[0])

    def load(self, message: bytes) -> Any:
        """Load a message to a running task, which needs no definitions."""
        return self._decoder.decode(message)

    def forget(self, packed: tuple[bytes, list[int]]) -> None:
        """Take in what `pack` made, which is not to be loaded."""
        for number in packed[1]:
            self._decoder.forget(number)

    def result(self, value: Any) -> Callable[[], Any]:
        """Pickle a result, which raises what that raises; gives a function that loads it."""
        payload = self._replies.encode(value)
        return lambda: self._reply_decoder.decode(payload)

    def keeper(self) -> Pickled:
        """What pickles the outcomes of a chunk's items."""
        return Pickled(self._replies.encode, lambda error: dumps(self._encode_failure(error), PROTOCOL))

    def _encode_failure(self, error: BaseException) -> Failure:
        return encode_failure(error, self._replies.encode, self._decoder.decode)

    def failure(self, error: BaseException) -> BaseException:
        """An exception of the worker as the parent gets to see it."""
        name, message = type_name_of(type(error)), message_of(error)
        text = own_text(error, name, message)[0]
        try:
            return decode_failure(self._encode_failure(error), self._reply_decoder.decode)
        except KeyboardInterrupt:  # the exception's own code raised it
            return TaskFailed(name, message, text)


class SharingPort(ThreadPort):
    """An inline worker's end of the conversation where objects are shared: a thread's will do."""

    def prepare(self, item: Sendable) -> None:
        """A task is about to be put; raises what keeps it from being sent."""

    def options(self, *values: Any) -> Any:
        """The worker's options as the worker gets to see them."""
        return values

    def seen_by_parent(self, error: BaseException) -> BaseException:
        """An exception of the worker as the parent gets to see it."""
        return as_seen_by_parent(error)


class PicklingPort(SharingPort):
    """The same where everything is pickled on its way."""

    def __init__(
        self,
        ring: Ring,
        deliver: Callable[[], None],
        slots: int,
        crossing: Crossing,
    ) -> None:
        super().__init__(ring, deliver, slots)
        self._crossing = crossing
        self._packed: dict[int, tuple[bytes, list[int]]] = {}  # by id of the task

    def prepare(self, item: Sendable) -> None:
        """Pickle a task that is about to be put; raises what that raises."""
        task: Any = item.task
        if type(task) is CallableTask:
            task = (task.fn, task.args, task.kwargs)
        self._packed[item.id] = self._crossing.pack(task)

    def options(self, *values: Any) -> Any:
        """The worker's options, pickled and loaded; raises what that raises."""
        return self._crossing.unpack(self._crossing.pack(values))

    def note(self, record: Record, environment: Any) -> None:
        """Take in a task that is not to be run."""
        self._crossing.forget(self._packed.pop(record[3]))

    def load(self, record: Record, environment: Any) -> Call:
        """The call for a task: what was made of it on its way."""
        content: Any = record[6]
        task, context = content
        self.variables = Captured(context) if context is not None else None
        packed = self._packed.pop(record[3])
        try:
            loaded = self._crossing.unpack(packed)
            if type(loaded) is tuple:  # no task, but what `prepare` made of a CallableTask
                return cast("Call", loaded)
            return loaded.run, (environment,), {}
        except BaseException as error:  # loading the user's objects: they may exit, or worse
            problem = unloadable_task(task, self._crossing.failure(error))
        raise problem

    def result(self, id: int, value: Any, start: float, end: float) -> None:
        """Report a result; raises what pickling it raises, and has then reported nothing."""
        load = self._crossing.result(value)
        cls = type(cast("object", value))
        try:
            copy = load()
        except BaseException as error:  # as above
            name = f"{cls.__module__}.{cls.__qualname__}".encode() if cls not in PLAIN else b""
            self.outbox.append((FAILED, id, unloadable_reply("a result", name, error), start, end))
        else:
            self.outbox.append((RESULT, id, copy, start, end))

    def keeper(self) -> Pickled:
        """What keeps the outcomes of a chunk's items: pickles."""
        return self._crossing.keeper()

    def item(self, id: int, slot: int, index: int, value: Any) -> int:
        """Hand over an item of a stream; raises what pickling and loading it raises."""
        return super().item(id, slot, index, self._crossing.result(value)())

    def pack(self, value: Any) -> Any:
        """A message as it travels: what gives it to the parent.

        Raises:
            SerializationError: it can't be pickled.
        """
        try:
            load = self._crossing.result(value)
        except BaseException as error:  # as above
            raise unpicklable("a message", value, error) from error

        def give() -> Any:
            try:
                return load()
            except BaseException as error:  # as above
                raise unloadable_reply("a message", b"", error) from error

        return give

    def tell(self, kind: int, id: int, value: Any) -> None:
        """Say something about a running task; a message is what `pack` made."""
        if kind == MESSAGE:
            self.outbox.append((kind, id, value, 0.0, 0.0))
            self.flush()
        else:
            super().tell(kind, id, value)

    def unpack(self, packed: Any) -> Any:
        """The message that came; raises `SerializationError`."""
        try:
            return self._crossing.load(packed)
        except BaseException as error:  # as above
            raise unloadable("a message", error) from error

    def failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Report a failure."""
        self.outbox.append((FAILED, id, self.seen_by_parent(error), start, end))

    def unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Report what `load` raised, which is in the parent's words already."""
        self.outbox.append((FAILED, id, error, start, end))

    def seen_by_parent(self, error: BaseException) -> BaseException:
        """An exception of the worker as it comes out of its pickle."""
        return self._crossing.failure(error)
