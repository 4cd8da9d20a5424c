"""A conversation between a worker process and its parent: recorded, and said again to one of the two."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from offloop.contexts import process_link
from offloop.contexts.ends import Ends
from offloop.contexts.process_link import ProcessLink
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.starters import Starter
from offloop.link import Context, LinkOwner
from offloop.shm.ledger import CONTROL, Ledger
from offloop.wire.definitions import Definitions
from offloop.worker import ContextWorker, WorkerFactory

#: How many tasks a worker gets at once: all of a conversation.
SLOTS = 16


class Tap:
    """A socket that takes down what passes through it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.received = bytearray()
        self.sent = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        self.received += data
        return data

    def recvmsg(self, *args: int) -> Any:
        found = self._sock.recvmsg(*args)
        self.received += found[0]
        return found

    def recv_into(self, view: memoryview) -> int:
        count = self._sock.recv_into(view)
        self.received += view[:count]
        return count

    def send(self, data: Any, *flags: int) -> int:
        count = self._sock.send(data, *flags)
        self.sent += data[:count]
        return count

    def sendmsg(self, parts: Sequence[Any], *rights: Any) -> int:
        count = self._sock.sendmsg(parts, *rights)
        self.sent += b"".join(parts)[:count]
        return count


def tapped(taps: list[Tap]) -> Any:
    """In place of `process_link.open_ends`: taps on the parent's ends, data and then control."""
    open_ends = process_link.open_ends

    def open_tapped(slots: int) -> Ends:
        ends = open_ends(slots)
        taps.extend([Tap(ends.data), Tap(ends.control)])
        return ends._replace(data=taps[-2], control=taps[-1])  # type: ignore[arg-type]

    return open_tapped


class FarEnd(Starter):
    """In place of a worker process: what a test does with its ends of the sockets, and the page."""

    def spawn(self, fds: tuple[int, int, int], asker: Any) -> None:
        self.data = socket.socket(fileno=os.dup(fds[0]))
        self.control = socket.socket(fileno=os.dup(fds[1]))
        self.ledger = Ledger(fds[2])
        asker.spawned(0, -1, self.close)

    def say(self, data: bytes, control: bytes = b"") -> None:
        """Say this, and count it as a worker does."""
        if control:
            self.control.sendall(control)
            self.ledger.words[CONTROL] += len(control)
        if data:
            self.data.sendall(data)

    def close(self) -> None:
        self.data.close()
        self.control.close()
        self.ledger.close()


class HandLink(ProcessLink):
    """The parent's end, real but for the process, which dies when it is killed, or told to."""

    _starter: FarEnd

    def _signal(self, number: int) -> None:
        if number == signal.SIGKILL and not self._over:
            self._loop.call_soon(self.die)

    def spawned(self, pid: int, pidfd: int, kill: Callable[[], object]) -> None:
        self._has_begun = True
        self._loop.add_reader(self._data, self._readable)

    def die(self) -> None:
        """The process is gone."""
        if not self._over:
            self._starter.close()
            self.ended(signal.SIGKILL, None)


class HandContext(Context):
    """One pool's: its workers are in a test's hand."""

    slots = SLOTS

    def __init__(self, factory: HandFactory, definitions: Definitions) -> None:
        self._factory, self._definitions = factory, definitions

    def connect(self, number: int, owner: LinkOwner) -> HandLink:
        nothing: Any = SimpleNamespace(verdict=lambda *_, **__: None, receive=lambda *_: None)
        end = FarEnd()
        options = WorkerOptions(
            number=number, slots=SLOTS, environment=None, bootstrap=self._factory.bootstrap
        )
        loop = asyncio.get_running_loop()
        link = HandLink(loop, end, self._definitions, options, owner, nothing, nothing)
        self._factory.ends.append(end)
        self._factory.links.append(link)
        return link

    def abandon(self) -> None:
        """Nothing is shared."""


class HandFactory(WorkerFactory):
    """Makes workers in a test's hand."""

    concurrency = SLOTS

    def __init__(self, bootstrap: Any, definitions: Definitions) -> None:
        self.bootstrap = bootstrap
        self._definitions = definitions
        self.ends: list[FarEnd] = []
        self.links: list[HandLink] = []

    def context(self) -> HandContext:
        return HandContext(self, self._definitions)


class Hand:
    """One worker in a test's hand.

    Args:
        bootstrap: as it was recorded, for the numbers of definitions.
        definitions: may be shared with others that are sent the same.
    """

    def __init__(self, bootstrap: Any, definitions: Definitions) -> None:
        self._factory = HandFactory(bootstrap, definitions)
        self.worker = ContextWorker(self._factory)

    async def begin(self, said: bytes, *, is_ready: bool) -> None:
        """Have it say this first, and all of its tasks be sent, if it is ready by that."""
        while not self._factory.ends:
            await asyncio.sleep(0)
        self.end, self.link = self._factory.ends.pop(), self._factory.links.pop()
        while not hasattr(self.end, "data"):
            await asyncio.sleep(0)
        self.end.say(said)
        (handle,) = self.worker._dispatcher.handles.values()
        while is_ready and len(handle.state.hand) < self.worker._dispatcher.outstanding:
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.worker.kill()
        await self.worker.shutdown()
