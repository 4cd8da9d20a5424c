"""What belongs together goes out in one message: each one is a system call, and wakes the other side."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from offloop.child import port as worker_port
from offloop.child.exchange import Exchange
from offloop.child.layout import QUICK, THRESHOLD, Copy
from offloop.child.port import SocketPort
from offloop.contexts.sending import Sender
from offloop.shm.ledger import Ledger, create_file
from offloop.task import CallableTask
from offloop.wire import cpickle
from offloop.wire.definitions import Definitions
from offloop.wire.frames import CALL_ARGS, LOANS, RESULT, SEGMENT, FrameDecoder

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

LIMIT = 1 << 20
SILENT: Any = SimpleNamespace(line=())


class Messages:
    """A worker's data socket: the kinds of frame in each message that it is given."""

    def __init__(self) -> None:
        self.kinds: list[list[int]] = []
        self.timeouts: list[float | None] = []
        self._frames = FrameDecoder(LIMIT)

    def settimeout(self, timeout: float | None) -> None:
        """Taken down."""
        self.timeouts.append(timeout)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """One message."""
        self.kinds.append([record[0] for record in self._frames.feed(bytes(data))])

    def sendmsg(self, parts: list[Any], _rights: Any, flags: int) -> int:
        """One with a descriptor."""
        self.sendall(b"".join(parts))
        return len(b"".join(parts))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """The page shared with the parent."""
    fd = create_file()
    made = Ledger(fd)
    os.close(fd)
    yield made
    made.close()


def give(port: SocketPort, id: int, value: Any) -> None:
    """Report a result, and give it up."""
    later: Callable[[], None] | None = port.result(id, value, 0.0, 0.0)
    if later is not None:
        later()


@pytest.mark.parametrize("size", [THRESHOLD, QUICK, QUICK + 1])
def test_a_large_result_goes_behind_what_was_finished_before_it(ledger: Ledger, size: int) -> None:
    sock: Any = Messages()
    port = SocketPort(sock, ledger, LIMIT, SILENT)
    give(port, 1, bytes(size))
    assert sock.kinds == [[SEGMENT], [RESULT]]
    sock.kinds.clear()
    port._receiver.set_timeout(5.0)
    port._exchange._own.returned(1)
    give(port, 2, "small")
    give(port, 3, bytes(size))
    # What takes long to copy is not waited for by what is finished.
    assert sock.kinds == ([[RESULT, RESULT]] if size <= QUICK else [[RESULT], [RESULT]])
    assert sock.timeouts[-1] is None, "a message is never cut by a timeout"
    port.close()


def test_nothing_comes_between_the_parts_of_a_frame(ledger: Ledger) -> None:
    sock: Any = Messages()
    port = SocketPort(sock, ledger, LIMIT, SILENT)
    port._exchange.lends = False
    sendall = sock.sendall

    def end_a_loan(data: Any, flags: int = 0) -> None:
        port._exchange._loan_ended(7, False)
        port._modules.count = -1  # as if a module had been imported
        sendall(data)

    sock.sendall = end_a_loan
    give(port, 1, "before")
    give(port, 2, [numpy.zeros(THRESHOLD), numpy.ones(THRESHOLD)])
    port.flush()
    assert [kind for kinds in sock.kinds for kind in kinds if kind == RESULT] == [RESULT] * 2
    assert not sock._frames.mid_frame


@pytest.mark.parametrize("value", ["x" * THRESHOLD, 1 << 8 * THRESHOLD, "small"], ids=["str", "int", "small"])
def test_text_and_numbers_are_pickled_once(
    value: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickles = []

    def dumps(obj: Any, protocol: int) -> bytes:
        pickles.append(pickle.dumps(obj, protocol))
        return pickles[-1]

    for module in (worker_port, cpickle):
        monkeypatch.setattr(module, "dumps", dumps)
    sock: Any = Messages()
    port = SocketPort(sock, ledger, LIMIT, SILENT)
    give(port, 1, value)
    port.flush()
    assert sock.kinds[-1] == [RESULT]
    assert [pickle.loads(each) for each in pickles] == [value]
    port.close()


class Item:
    """A task to be sent."""

    flags = attempt = place = 0
    kwargs: dict[str, Any] = {}
    context = None
    cost = 0.0

    def __init__(self, id: int, argument: bytes) -> None:
        self.id = id
        self.task = CallableTask(len, argument)
        self.fn, self.args = self.task.fn, self.task.args


@pytest.mark.parametrize("size", [THRESHOLD, QUICK + 1])
def test_a_task_goes_along_with_what_there_is_to_tell_of_loans(size: int) -> None:
    written: list[Any] = []
    outbox: Any = SimpleNamespace(write=written.extend)
    exchange = Exchange(lambda: None)
    lending: Any = SimpleNamespace(exchange=exchange, used=lambda: None)
    sender = Sender(outbox, Definitions(lambda _: True, 1000), lending)
    assert sender.send([Item(1, bytes(size))]) == []
    for part in written:
        if hasattr(part, "fd"):
            part.close()
    written.clear()
    exchange._own.returned(1)
    exchange._loan_ended(7, False)
    assert sender.send([Item(2, bytes(size)), Item(3, b"small")]) == []
    frames = FrameDecoder(LIMIT)
    kinds = [
        Copy if isinstance(part, Copy) else [record[0] for record in frames.feed(part)] for part in written
    ]
    if size <= QUICK:
        assert kinds == [Copy, [LOANS, CALL_ARGS, CALL_ARGS]]
    else:
        assert kinds == [[LOANS], Copy, [CALL_ARGS, CALL_ARGS]]
    written.clear()
    exchange.close()
