"""The far side of a worker on a cluster: a process beside the engine's actor, and the talk with its parent.

The tasks run in a worker process as on the parent's own machine, with the same
sockets and the same ledger; the actor only passes on what is said.  So a task
is interrupted, killed and found in its process exactly as there, and one that
takes its process along leaves the engine's in peace.

All methods run on the engine's event loop.  None runs the user's code.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
from collections.abc import Callable
from time import monotonic

from offloop.contexts.ends import open_ends
from offloop.contexts.messages import HOLD, End, Order, Push, Reply, hello, pack, unpack
from offloop.contexts.oom import OomWatch
from offloop.contexts.outbox import Outbox
from offloop.contexts.stacks import dumped_stack
from offloop.contexts.starters import TemplateStarter
from offloop.contexts.template import interpreter
from offloop.contexts.watch import WorkerProcess
from offloop.link import could_not_start
from offloop.shm.ledger import LENGTH, Ledger
from offloop.wire.frames import BYE, frame

#: Bytes asked for in one receive.
CHUNK = 1 << 18
#: Bytes that wait to be fetched, from which on a worker's sockets are not read, so that it waits.
MOST = 1 << 24
#: Seconds between looks at what runs, while the parent waits for outcomes.
TICK = 0.02
#: What a worker that ends in good order says last.
GOODBYE = frame(BYE)
#: Looks at whether the parent was heard of, within ``lost_after``.
LOOKS = 4
#: As many times ``lost_after`` a parent may be silent: its event loop may be held up, and it be there.
PATIENCE = 2


class FarWorker:
    """One worker process on this machine, for a parent on another.

    Calls may arrive out of order, and a call that was lost may be made again:
    each has a number.

    Args:
        order: a packed `Order`.
    """

    def __init__(self, order: bytes) -> None:
        self._order = Order(*unpack(order))
        self._pushed = 0
        self._early: dict[int, Push] = {}  # pushes that overtook another one
        self._number = 0
        self._last = b""
        self._control_in: list[bytes] = []
        self._data_in: list[bytes] = []
        self._waiting = 0  # bytes of these
        self._tail = b""  # the end of its data
        self._shown: list[tuple[int, float]] = []  # what runs, as told last
        self._has_peeked = False
        self._end: End | None = None
        self._process: WorkerProcess | None = None
        self._is_orphan = False
        self._heard = True
        self._silent = 0
        self._is_busy = False
        self._is_killed = self._is_closed = self._ticking = self._is_open = self._was_deserted = False
        self._journal = b""  # what the dead process left there
        self._ledger: Ledger | None = None

    # -- called by the parent ---------------------------------------------------

    async def open(self) -> bytes:
        """Begin to start the worker; returns what must be the same at both ends.

        Raises:
            OSError: there are no descriptors, or there is no memory.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._is_open = True
        self._news = asyncio.Event()
        self._oom = OomWatch()
        self._starter = TemplateStarter(loop, interpreter(None, self._order.env, self._order.preload))
        self._starter.learn(self._order.foreseen)
        self._data, self._control, self._ledger, worker, fds = open_ends(self._order.slots + 1)
        self._control.setblocking(False)
        self._data_out, self._control_out = (
            Outbox(loop, sock, lambda _: self._signal(signal.SIGKILL)) for sock in (self._data, self._control)
        )
        with worker:
            try:
                self._listen()
                self._starter.spawn(fds, self)
            except Exception as error:
                self.not_spawned(could_not_start("a worker", error))
        self._look()
        return pickle.dumps(hello())

    async def push(self, number: int, message: bytes) -> bytes:
        """Take what the parent says: the ``number``-th of its messages."""
        self._heard = True
        if number > self._pushed:
            self._early[number] = Push(*unpack(message))
        while (push := self._early.pop(self._pushed + 1, None)) is not None:
            self._pushed += 1
            self._take(push)
        return b""

    async def pull(self, received: int, pushed: int, is_busy: bool) -> bytes:
        """Tell the parent what there is to tell; wait for something, but not for ever.

        Args:
            received: the number of the reply that the parent got last.
            pushed: how many messages the parent had sent.
            is_busy: whether it then waited for outcomes.

        Raises:
            ConnectionError: this has ended itself, as nothing was heard of the parent, which is back.
        """
        if self._was_deserted:
            raise ConnectionError("it had ended itself, as it heard nothing from here")
        self._heard = True
        if not is_busy and pushed == self._pushed:
            self._is_busy = False
        since = monotonic()
        if received == self._number:
            try:
                async with asyncio.timeout(self._order.lost_after * HOLD):
                    await self._news.wait()
            except TimeoutError:
                pass
        if received == self._number:  # else the last reply was lost
            self._last = self._reply(monotonic() - since)
        return self._last

    async def signal(self, number: int) -> bytes:
        """Send the worker a signal; one that has not begun gets SIGKILL when it has."""
        if number == signal.SIGKILL:
            self._is_killed = True
        self._signal(number)
        return b""

    async def stack(self) -> str:
        """The stack of the running code, got without the help of Python code there."""
        return await dumped_stack(self._signal, lambda: self._ledger)

    async def close(self) -> bytes:
        """Let go of everything; a worker that still runs is ended.  Waits until nothing is left."""
        if self._is_open:
            self._close()
            await self._starter.wait_ended()
        return b""

    # -- from the parent to the worker ------------------------------------------

    def _take(self, push: Push) -> None:
        if self._ledger is None:
            return
        if push.control:
            self._control_out.write([push.control])
        if push.data:
            self._data_out.write(push.data)
            self._is_busy = True
            if not self._ticking:
                self._ticking = True
                self._loop.call_later(TICK, self._tick)
        for id, is_hungry in push.hungry.items():
            self._ledger.set_hungry(id, is_hungry)
            if is_hungry:
                self._peek()
                self._loop.call_later(0.001, self._peek)  # see "Streams" in docs/design.md

    # -- from the worker to the parent --------------------------------------------

    def _listen(self) -> None:
        self._loop.add_reader(self._data, self._readable)
        self._loop.add_reader(self._control, self._hear)

    def _readable(self) -> None:
        """Take what is in the data socket; what was said before it is in the control socket by now."""
        self._receive(self._data, self._data_in)
        self._hear()

    def _hear(self) -> None:
        while self._receive(self._control, self._control_in):
            pass

    def _receive(self, sock: socket.socket, into: list[bytes]) -> bool:
        """Take what a socket holds; False if that is all for now."""
        if sock.fileno() < 0:
            return False
        try:
            data = sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(sock)
            if sock is self._data and self._tail != GOODBYE:  # it can say no more, if it still runs
                self._signal(signal.SIGKILL)
            return False
        into.append(data)
        if sock is self._data:
            self._tail = (self._tail + data[-len(GOODBYE) :])[-len(GOODBYE) :]
        self._waiting += len(data)
        if self._waiting > MOST:
            self._loop.remove_reader(self._data)
            self._loop.remove_reader(self._control)
        self._news.set()
        return True

    def _drain(self) -> bool:
        """Take all that is in the sockets; False if it is too much, and some is left there."""
        while self._waiting <= MOST:
            if not self._receive(self._data, self._data_in):
                self._hear()
                return True
        return False

    def _reply(self, held: float) -> bytes:
        self._number += 1
        running, journal = self._running(), self._journal
        if self._has_peeked and self._ledger is not None:
            journal = self._ledger.unsent()
            if not self._drain():
                journal = b""  # of what went before it there is more than one answer may hold
        control, data = b"".join(self._control_in), self._data_in[:]
        self._control_in.clear()
        self._data_in.clear()
        if self._waiting > MOST and self._ledger is not None:
            self._listen()
        self._waiting, self._has_peeked, self._shown = 0, False, running
        self._news.clear()
        return pack(Reply(self._number, control, data, journal, running, self._end, monotonic(), held))

    def _running(self) -> list[tuple[int, float]]:
        return self._ledger.running() if self._ledger is not None else []

    def _peek(self) -> None:
        """Have what waits in the journal told, if there is something."""
        if self._ledger is not None and self._ledger.words[LENGTH]:
            self._has_peeked = True
            self._news.set()

    def _tick(self) -> None:
        """While the parent waits for outcomes: tell what began to run, and what waits behind it."""
        if self._ledger is None or not self._is_busy:
            self._ticking = False
            return
        if self._running() != self._shown:
            self._news.set()
        self._peek()
        self._loop.call_later(TICK, self._tick)

    # -- the process ------------------------------------------------------------

    def spawned(self, pid: int, pidfd: int, kill: Callable[[], object]) -> None:
        """It runs."""
        self._process = WorkerProcess(self._loop, pid, pidfd, self._gone, kill)
        if self._is_killed or self._data_out.closed or self._control_out.closed:
            self._signal(signal.SIGKILL)
        if self._ledger is None:  # given up meanwhile
            self._process.close()
        else:  # not before: a worker that its template has not told of could not be ended
            self._listen()

    def not_spawned(self, error: BaseException) -> None:
        """There is no process."""
        self._ended(End(None, [], str(error), None, None, None, "", None))

    def ended(self, status: int | None, peak_rss: int | None) -> None:
        """It is gone; take everything that it left."""
        ledger, process = self._ledger, self._process
        if ledger is None or process is None:
            return
        if status is None and process.is_watched:
            # It dies with its template, but perhaps not yet: before that, it could begin a task.
            self._is_orphan = True
            process.signal(signal.SIGKILL)
            return
        code = os.waitstatus_to_exitcode(status if status is not None else signal.SIGKILL.value)
        self._hear()
        while self._receive(self._data, self._data_in):
            pass
        self._journal = ledger.unsent()
        oom = self._oom.verdict(code, asked=self._is_killed)
        told = ledger.stack(), ledger.last_words(), oom
        self._ended(End(code, ledger.running(), None, peak_rss, process.pid, *told))

    def _ended(self, end: End) -> None:
        self._end = end
        self._release()
        self._news.set()

    def _gone(self) -> None:
        """The pidfd says so; as a rule its status comes from the template."""
        if self._is_orphan:
            self.ended(None, None)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._end is None:
            self._process.signal(number)

    def _release(self) -> None:
        """Let go of the process's sockets and page."""
        ledger, self._ledger = self._ledger, None
        if ledger is None:
            return
        self._data_out.close()
        self._control_out.close()
        for sock in (self._data, self._control):
            self._loop.remove_reader(sock)
            sock.close()
        if self._process is not None:
            self._process.close()
        ledger.close()

    # -- the parent's end -----------------------------------------------------------

    def _look(self) -> None:
        """End a worker whose parent is not heard of: it may run elsewhere what this one still holds."""
        if self._is_closed:
            return
        self._silent = 0 if self._heard else self._silent + 1
        self._heard = False
        if self._silent >= LOOKS * PATIENCE:
            self._was_deserted = True
            self._close()
        else:
            self._loop.call_later(self._order.lost_after / LOOKS, self._look)

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = self._is_killed = True
        self._signal(signal.SIGKILL)
        self._release()
        self._starter.release()
