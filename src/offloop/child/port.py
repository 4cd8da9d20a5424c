"""A process worker's end of the conversation: bytes in, records out, and back."""

from __future__ import annotations

import os
import sys

from offloop.child.exchange import (
    THRESHOLD,
    Copy,
    Exchange,
    Part,
    WithDescriptor,
    shared,
)
from offloop.child.lowlevel import sockets
from offloop.shm.ledger import GENERATION, LENGTH, SLOTS, Ledger
from offloop.wire.codec import Decoder, ReplyEncoder
from offloop.wire.frames import (
    BUFFERS,
    CALL,
    CALL_ARGS,
    CANCELLED,
    DEFINE,
    FAILED,
    FORGET,
    HEADER,
    HEADER_SIZE,
    LENT,
    MAGIC,
    PATH,
    RESULT,
    SETUP,
    UNLOADABLE,
    FrameDecoder,
    Record,
    frame,
    split_buffers,
)

TYPE_CHECKING = False

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence
    from pickle import PickleBuffer
    from typing import Any

    Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

#: Bytes asked for in one receive.
CHUNK = 1 << 16
#: Room for the descriptors that come along with one receive.
RIGHTS = sockets.CMSG_LEN(4 * 16)
#: Received descriptors are not handed on to programs that tasks start.
CLOEXEC: int = getattr(sockets, "MSG_CMSG_CLOEXEC", 0)
#: Results that large payloads are made for, and which pickle does not lay out by itself.
BYTES = frozenset({bytes, bytearray})
#: Results of these types can always be loaded.
PLAIN = frozenset({bool, int, float, str, bytes, list, tuple, dict, set})
_NO_KEYWORDS: dict[str, Any] = {}


class SocketPort:
    """Receives tasks from a socket, and sends their outcomes through the ledger's journal.

    Args:
        sock: the data socket, blocking.
        ledger: the page shared with the parent.
        limit: the largest payload accepted, in bytes.
    """

    def __init__(self, sock: sockets.socket, ledger: Ledger, limit: int) -> None:
        self.ledger = ledger
        self._sock = sock
        self._frames = FrameDecoder(limit)
        self._decoder = Decoder()
        self._encoder = ReplyEncoder(self._decoder)
        self._words, self._journal = ledger.words, ledger.journal
        self._used = 0
        self._exchange = Exchange(lambda: None)  # what it has to say is said with the next flush
        self._forked = False
        self._early: list[Record] = []  # what came along with the setup
        self._timeout: float | None = None

    def let_go(self) -> None:
        """This is a process that a task forked: the conversation is not its own."""
        self._sock.close()
        self._forked = True

    def _leave_fork(self) -> None:
        """A task returned in a process that it forked as well, which has nothing more to do."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)

    def attach(self, loop: AbstractEventLoop, arrived: Callable[[], None]) -> None:
        """From now on have ``loop`` call ``arrived`` when something can be received."""
        loop.add_reader(self._sock.fileno(), arrived)

    def detach(self, loop: AbstractEventLoop) -> None:
        """End `attach`."""
        loop.remove_reader(self._sock.fileno())

    def _set_timeout(self, timeout: float | None) -> None:
        if timeout != self._timeout:  # each change is a system call
            self._sock.settimeout(timeout)
            self._timeout = timeout

    # -- in -------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> list[Record] | None:
        """Wait for frames.

        Args:
            timeout: how long at the most, in seconds; None for ever.

        Returns:
            The records that came (none, after the timeout); None when the parent is gone.
        """
        if self._early:
            early, self._early = self._early, []
            return early
        self._set_timeout(timeout)
        wanted = self._frames.wanted
        try:
            if wanted is not None:
                count = self._sock.recv_into(wanted)
                return self._frames.filled(count) if count else None
            data, ancillary, _, _ = self._sock.recvmsg(CHUNK, RIGHTS, CLOEXEC)
            for _, _, rights in ancillary:
                self._exchange.receive_descriptors(rights)
            return self._frames.feed(data) if data else None
        except (TimeoutError, BlockingIOError):
            return []
        except ConnectionError:
            return None

    def receive_setup(self) -> bytes | memoryview | None:
        """The payload of the first frames' `SETUP`; None when the parent is gone."""
        while (records := self.receive()) is not None:
            for index, record in enumerate(records):
                if record[0] == SETUP:
                    self._early = records[index + 1 :]
                    return record[6]
                self.note(record, None)
        return None

    def note(self, record: Record, environment: Any) -> None:
        """Take in a record that is no task, or a task that is not to be run."""
        kind, _, ref, _, _, _, payload = record
        if kind == DEFINE:
            self._decoder.define(ref, bytes(payload))
        elif kind == FORGET:
            self._decoder.forget(ref)
        elif kind == PATH:
            sys.path[:] = self._decoder.decode(payload)
        else:
            self._exchange.note(record)

    def load(self, record: Record, environment: Any) -> Call:
        """The call that a task's record asks for; raises what loading the user's objects raises."""
        kind, flags, ref, _, _, _, payload = record
        if kind in (CALL, CALL_ARGS):
            try:
                fn = self._decoder.resolve(ref)
            except BaseException:
                self._exchange.note(record)  # what was lent for the arguments goes back
                raise
            if kind == CALL_ARGS:
                return fn, self._decode(flags, payload), _NO_KEYWORDS
            if not payload:
                return fn, (), _NO_KEYWORDS
            args, kwargs = self._decode(flags, payload)
            return fn, args, kwargs
        task = self._decode(flags, payload)
        return task.run, (environment,), _NO_KEYWORDS

    def _decode(self, flags: int, payload: bytes | memoryview) -> Any:
        if flags & LENT:
            return self._decoder.decode(*self._exchange.open(payload))
        if flags & BUFFERS:
            return self._decoder.decode(*split_buffers(payload))
        return self._decoder.decode(payload)

    def decode(self, payload: bytes | memoryview) -> Any:
        """Load what the parent pickled."""
        return self._decoder.decode(payload)

    # -- out ------------------------------------------------------------------

    def result(self, id: int, value: Any, start: float, end: float) -> Callable[[], None] | None:
        """Report a result; raises what pickling it raises, and has then reported nothing.

        Returns:
            None; or a function that reports it, to be called when the caller has
            let go of the task's arguments and result, whose memory goes back with it.
        """
        if value is None:
            self._write(RESULT, 0, id, b"", start, end)
            return None
        buffers: list[memoryview] = []

        def take(buffer: PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= THRESHOLD:
                buffers.append(raw)
            return raw.nbytes < THRESHOLD

        pickled = self._encoder.encode(shared((value,))[0] if type(value) in BYTES else value, take)
        name = b""
        if type(value) not in PLAIN:
            # Behind the pickle, which ends by itself: a result that can't be
            # loaded is named by its type.
            name = f"{type(value).__module__}.{type(value).__qualname__}".encode()
            pickled += name
        if not buffers and len(pickled) < THRESHOLD:
            self._write(RESULT, 0, id, pickled, start, end, len(name))
            return None
        name_length = len(name) if len(pickled) < THRESHOLD else 0
        finish = self._exchange.hand_over(pickled, buffers)
        if finish is None:
            self._send_large(id, self._exchange.lay_out(pickled, buffers), start, end, name_length)
            return None
        return lambda: self._send_large(id, finish(), start, end, name_length)

    def _send_large(
        self, id: int, laid_out: tuple[int, int, list[Part]], start: float, end: float, ref: int
    ) -> None:
        flags, size, parts = laid_out
        head = HEADER.pack(MAGIC, RESULT, flags, ref, id, size, start, end)
        self._send_parts([*self._exchange.take_before(), head, *parts])

    def failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Report that a task failed."""
        self._write(FAILED, 0, id, self.encode_failure(error), start, end)

    def unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """Report that a task could not be loaded."""
        self._write(UNLOADABLE, 0, id, self.encode_failure(error), start, end)

    def cancelled(self, id: int, start: float, end: float) -> None:
        """Report that a running task ended because it was cancelled."""
        self._write(CANCELLED, 0, id, b"", start, end)

    def encode_failure(self, error: BaseException) -> bytes:
        """A failure as bytes; never raises for what the user's exception does."""
        import pickle

        from offloop.wire.failure import encode_failure

        failure = encode_failure(error, self._encoder.encode, self._decoder.decode)
        return pickle.dumps(failure, 5)

    def say(self, kind: int, payload: bytes = b"") -> None:
        """Send a frame that concerns no task, at once."""
        self._send_parts([frame(kind, payload)])

    def running(self, slot: int, id: int, start: float) -> None:
        """Note in the ledger that a task is about to run (0: nothing is)."""
        at = SLOTS + 2 * slot
        self.ledger.times[at + 1] = start
        self._words[at] = id

    def _write(
        self, kind: int, flags: int, id: int, payload: bytes, start: float, end: float, ref: int = 0
    ) -> None:
        if self._forked:
            self._leave_fork()
        size = HEADER_SIZE + len(payload)
        used = self._used
        if used + size > self.ledger.capacity:
            self.flush()
            used = 0
            if size > self.ledger.capacity:
                self._send_parts(
                    [HEADER.pack(MAGIC, kind, flags, ref, id, len(payload), start, end), payload]
                )
                return
        journal = self._journal
        HEADER.pack_into(journal, used, MAGIC, kind, flags, ref, id, len(payload), start, end)
        if payload:
            journal[used + HEADER_SIZE : used + size] = payload
        self._used = self._words[LENGTH] = used + size

    def flush(self) -> None:
        """Send what the journal holds, and empty it."""
        if self._used:
            self._send(self._journal[: self._used])
            # In this order: a reader of the living journal must not take old
            # bytes for new ones.
            self._words[LENGTH] = 0
            self._words[GENERATION] += 1
            self._used = 0
        if self._exchange.has_news:
            self._send_parts(self._exchange.settle())

    def _send_parts(self, parts: Sequence[Part]) -> None:
        if self._forked:
            self._leave_fork()
        self.flush()
        for part in parts:
            if isinstance(part, Copy):
                part.advance(len(part.source))
            elif isinstance(part, WithDescriptor):
                self._set_timeout(None)
                rights = part.fd.to_bytes(4, sys.byteorder)
                self._sock.sendmsg([part.data], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, rights)])
                part.close()
            elif len(part):
                self._send(memoryview(part))

    def _send(self, data: memoryview) -> None:
        self._set_timeout(None)
        self._sock.sendall(data)
