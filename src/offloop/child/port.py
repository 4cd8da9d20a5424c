"""A process worker's end of the conversation: bytes in, records out, and back."""

from __future__ import annotations

import sys
from time import monotonic

from offloop.child import layout
from offloop.child.exchange import Exchange
from offloop.child.layout import BYTES, JOIN, LONG, QUICK, Copy, LargeBuffers, Part, WithDescriptor, shared
from offloop.child.lowlevel import MSG_NOSIGNAL, sockets
from offloop.child.modules import NewModules, SearchPath
from offloop.child.receiving import Receiver
from offloop.child.standard import leave_fork
from offloop.child.voice import Voice
from offloop.shm.ledger import GENERATION, LENGTH, SLOTS, Ledger
from offloop.wire.carrying import CarriedContext
from offloop.wire.codec import Decoder, ReplyEncoder
from offloop.wire.cpickle import dumps
from offloop.wire.failure import encode_failure
from offloop.wire.frames import (
    BUFFERS,
    CALL,
    CALL_ARGS,
    CANCELLED,
    CONTEXT,
    DEFINE,
    FAILED,
    FORGET,
    HEADER,
    HEADER_SIZE,
    ITEM,
    LENT,
    MAGIC,
    MODULES,
    PATH,
    RAW,
    RESULT,
    SETUP,
    UNLOADABLE,
    VERBOSITY,
    Record,
    frame,
    split_buffers,
)
from offloop.wire.pickling import ATOMS, PROTOCOL

TYPE_CHECKING = False

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence
    from typing import Any

    from offloop.child.forward import Forwarding
    from offloop.child.keeping import Pickled
    from offloop.child.outlet import Outlet

    Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
    LaidOut = tuple[int, int, list[Part]]

#: Results of these types can always be loaded.
PLAIN = frozenset({bool, int, float, str, bytes, list, tuple, dict, set})
#: Items of a stream wait at most this long, in seconds, for the next one to be sent with.
FLUSH_AFTER = 0.001
#: A recursion limit below this, left by a task, is not left to the next: it could hardly import anything.
LEAST_DEPTH = 500
_NO_KEYWORDS: dict[str, Any] = {}


class SocketPort:
    """Receives tasks from a socket, and sends their outcomes through the ledger's journal.

    Args:
        sock: the data socket, blocking.
        ledger: the page shared with the parent.
        limit: the largest payload accepted, in bytes.
        outlet: what is said on the control socket.
    """

    def __init__(self, sock: sockets.socket, ledger: Ledger, limit: int, outlet: Outlet) -> None:
        self.ledger = ledger
        self.variables: CarriedContext | None = None
        self._sock = sock
        self._decoder = Decoder()
        self._encoder = ReplyEncoder(self._decoder)
        self._words, self._journal = ledger.words, ledger.journal
        self._used = 0
        self._exchange = Exchange(lambda: None)  # what it has to say is said with the next flush
        self._receiver = Receiver(sock, limit, self._exchange.receive_descriptors)
        self._forked = False
        self._modules = NewModules()
        self._depth = max(sys.getrecursionlimit(), LEAST_DEPTH)
        self._early: list[Record] = []  # what came along with the setup
        self._outlet = outlet
        self._said = outlet.line  # looked at for every outcome
        self.voice = Voice(outlet, self._decoder)
        self._flushed = 0.0
        self.path = SearchPath()
        self._size = 0  # of the pickle that was made last, buffers included
        self.forwarding: Forwarding | None = None  # of log records and warnings; hears of their levels here

    def let_go(self) -> None:
        """This is a process that a task forked: the conversation is not its own."""
        self._sock.close()
        self.voice.let_go()
        self._forked = True

    def close(self) -> None:
        """The worker ends, and its process lives on: give back the segments that nothing lies on."""
        self._exchange.close()

    def attach(self, loop: AbstractEventLoop, arrived: Callable[[], None]) -> None:
        """From now on have ``loop`` call ``arrived`` when something can be received, or came along before."""
        loop.add_reader(self._sock.fileno(), arrived)
        loop.call_soon(arrived)

    def detach(self, loop: AbstractEventLoop) -> None:
        """End `attach`."""
        loop.remove_reader(self._sock.fileno())

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
        if self.forwarding is not None:
            self.forwarding.look()
        return self._receiver.receive(timeout)

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
        elif kind == CONTEXT:
            self.variables = CarriedContext(payload, self._decoder.decode) if payload else None
        elif kind == PATH:
            self.path.take(self._decoder.decode(payload))
        elif kind != VERBOSITY:
            self._exchange.note(record)
        elif self.forwarding is not None:
            self.forwarding.update(self._decoder.decode(payload))

    def stay_apart(self) -> None:
        """The parent is on another machine: no memory is shared, and this machine's modules go first."""
        self._exchange.lends = False
        self.path.stay_apart()

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

    def result(
        self, id: int, value: Any, start: float, end: float, kind: int = RESULT
    ) -> Callable[[], None] | None:
        """Report a result; raises what pickling it raises, and has then reported nothing.

        An item of a stream is one too, of another ``kind``.

        Returns:
            None; or a function that reports it, to be called when the caller has
            let go of the task's arguments and result, whose memory goes back with it.
        """
        if value is None:
            self._write(kind, 0, id, b"", start, end)
            return None
        if type(value) in ATOMS:
            pickled = dumps(value, PROTOCOL)
            self._size = len(pickled)
            if len(pickled) < layout.THRESHOLD:
                self._write(kind, 0, id, pickled, start, end)
                return None
            buffers = LargeBuffers()
        else:
            if type(value) is memoryview:
                value = bytes(value)  # as it arrives, and which large payloads are made for
            content = shared((value,))[0] if type(value) in BYTES else value
            buffers = LargeBuffers()
            pickled = self._encoder.encode(content, buffers.take)
        name = b""
        if type(value) not in PLAIN:
            # Behind the pickle, which ends by itself: a result that can't be
            # loaded is named by its type.
            name = f"{type(value).__module__}.{type(value).__qualname__}".encode()
            pickled += name
        self._size = len(pickled)
        if not buffers and len(pickled) < layout.THRESHOLD:
            self._write(kind, 0, id, pickled, start, end, len(name))
            return None
        if kind == ITEM:
            self._size += sum(buffer.nbytes for buffer in buffers)
            end = self._size
        name_length = len(name) if len(pickled) < layout.THRESHOLD else 0
        raw = RAW if kind == RESULT and type(value) in BYTES and len(value) > LONG else 0
        finish = self._exchange.hand_over(pickled, buffers) or (
            lambda: self._exchange.lay_out(pickled, buffers)
        )
        return lambda: self._send_large(kind, id, finish(), start, end, name_length, raw)

    def _send_large(
        self, kind: int, id: int, laid_out: LaidOut, start: float, end: float, ref: int, raw: int
    ) -> None:
        flags, size, parts = laid_out
        flags |= raw if flags & LENT else 0
        head = HEADER.pack(MAGIC, kind, flags, ref, id, size, start, end)
        self._send_parts([*self._exchange.take_before(), head, *parts])

    def item(self, id: int, slot: int, index: int, value: Any) -> int:
        """Send an item of a stream, at once if somebody waits for it; raises what pickling it raises.

        Args:
            id: the task's id.
            slot: the slot of the ledger in which it runs.
            index: how many items came before.
            value: the item.

        Returns:
            Its size in bytes.
        """
        self._size = 0
        later = self.result(id, value, index, 0, ITEM)
        size = self._size
        if later is not None:
            later()
        now = monotonic()
        if not index or self._words[self.ledger.hungry + slot] or now - self._flushed > FLUSH_AFTER:
            self._flushed = now
            self.flush()
        return size

    def keeper(self) -> Pickled:
        """What keeps the outcomes of a chunk's items: pickles."""
        from offloop.child.keeping import Pickled

        return Pickled(self._encoder.encode, self.encode_failure)

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
        return dumps(encode_failure(error, self._encoder.encode, self._decoder.decode), PROTOCOL)

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
            leave_fork()
        if self._said:
            self._outlet.flush()  # what the task said must be on the socket before its outcome can be seen
        size = HEADER_SIZE + len(payload)
        used = self._used
        if used + size > self.ledger.capacity:
            self.flush()
            used = 0
            if size > self.ledger.capacity:
                head = HEADER.pack(MAGIC, kind, flags, ref, id, len(payload), start, end)
                self._send_parts([head, payload])
                return
        journal = self._journal
        HEADER.pack_into(journal, used, MAGIC, kind, flags, ref, id, len(payload), start, end)
        if payload:
            journal[used + HEADER_SIZE : used + size] = payload
        self._used = self._words[LENGTH] = used + size

    def flush(self, behind: bytes = b"") -> None:
        """Send what the journal holds, and empty it; and in the same message, ``behind`` it, these bytes."""
        if len(sys.modules) != self._modules.count or sys.getrecursionlimit() < LEAST_DEPTH:
            self._look_around()
        if self._said:
            self._outlet.flush()  # what tasks said goes before how they ended
        news = b"".join(self._exchange.settle()) if self._exchange.has_news else b""
        if news or self._used or behind:
            self._send_outcomes(news, behind)

    def _send_outcomes(self, news: bytes, behind: bytes) -> None:
        """Send what the journal holds, and empty it; in front of it what there is to tell of loans.

        So the parent, which may send the next task as soon as it sees the outcome
        of this one, has the memory back that this one was lent.
        """
        self._receiver.set_timeout(None)
        journal = self._journal[: self._used]
        self._sock.sendall(b"".join((news, journal, behind)) if news or behind else journal, MSG_NOSIGNAL)
        if self._used:
            # In this order: a reader of the living journal must not take old
            # bytes for new ones.
            self._words[LENGTH] = 0
            self._words[GENERATION] += 1
            self._used = 0

    def _look_around(self) -> None:
        """Put right what keeps the next tasks from being loaded; say what was imported.

        The latter is for workers to come.  It goes with the results of the tasks that needed
        it, so that the workers which the parent starts for the next tasks have it.
        """
        if sys.getrecursionlimit() < LEAST_DEPTH:
            sys.setrecursionlimit(self._depth)
        names = self._modules.names()
        if names:
            self._write(MODULES, 0, 0, " ".join(names).encode(), 0.0, 0.0)

    def _send_parts(self, parts: Sequence[Part]) -> None:
        """Send whole frames behind what was finished; small parts in one message: each wakes the parent."""
        if self._forked:
            leave_fork()
        self._receiver.set_timeout(None)
        small = b""
        send: Callable[[bytes], object] = self.flush
        for part in parts:
            if isinstance(part, (bytes, memoryview)) and len(small) + len(part) <= JOIN:
                small += part
            elif isinstance(part, Copy) and len(part.source) <= QUICK:
                part.advance(len(part.source))  # which may as well be done before what is in `small` is sent
            else:
                if small or send == self.flush:
                    send(small)
                small, send = b"", self._send
                if isinstance(part, Copy):
                    part.advance(len(part.source))
                elif isinstance(part, WithDescriptor):
                    part.send(self._sock)
                else:
                    self._send(memoryview(part))
        if small:
            send(small)

    def _send(self, data: bytes | memoryview) -> None:
        self._sock.sendall(data, MSG_NOSIGNAL)
