"""The link to a worker on a cluster: calls of an engine in place of sockets."""

from __future__ import annotations

import asyncio
import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from math import inf
from time import monotonic
from typing import Any

from offloop.contexts.conversation import Conversation, when_done
from offloop.contexts.engine import Engine, Seat
from offloop.contexts.framed_link import BUDGET, OUTCOMES, FramedLink, Learner
from offloop.contexts.lines import Batch, FedLine
from offloop.contexts.logs import LogReceiver
from offloop.contexts.messages import End, Push, Reply, hello
from offloop.contexts.outstanding import Outstanding
from offloop.contexts.sending import Sender
from offloop.contexts.setup import WorkerOptions
from offloop.contexts.starters import LIMIT
from offloop.errors import WorkerStartError
from offloop.link import Exit, LinkOwner, S, could_not_start, died_at_start
from offloop.wire.definitions import Definitions
from offloop.wire.frames import FrameDecoder, ProtocolError, Record

#: Seconds that a worker may take to end when it was killed, before its actor is.
KILL_GRACE = 3.0


class ClusterLink(FramedLink):
    """The parent's end of one worker on a cluster.

    It speaks to a worker process as `ProcessLink` does; a `FarWorker` beside that
    passes on what is said.  What the engine tells of an actor's end is believed;
    and where it tells nothing for ``lost_after`` seconds the worker is given up.

    Args:
        loop: the event loop.
        engine: makes the actor.
        definitions: those of the pool.
        options: what the worker is told first.
        owner: is told what happens.
        logs: takes log records and warnings.
        order: a packed `Order`.
        timing: ``start_timeout`` and ``lost_after`` in seconds.
        learner: is told of modules that the worker had to import.
        answering: numbers of the pool's workers that were opened and are there.
    """

    runs_beside = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        definitions: Definitions,
        options: WorkerOptions,
        owner: LinkOwner,
        logs: LogReceiver,
        order: bytes,
        timing: tuple[float, float],
        learner: Learner,
        answering: set[int],
    ) -> None:
        self._outstanding = Outstanding(owner)
        super().__init__(loop, learner, definitions, options, self._outstanding, logs)
        self._exchange.lends = False
        self._engine = engine
        self._answering = answering
        self._order = order
        self._start_timeout, self._lost_after = timing
        self._seat: Seat | None = None
        # What a worker says comes before what it is said about, so that there is nothing to drain.
        self._outbox = self._data_batch = Batch(self._push_soon)
        self._control_batch = Batch(self._push_soon)
        self._control = self._heard = FedLine(self._outstanding, self._replies, logs, self._control_batch)
        self._sender = Sender(self._outbox, definitions, self._lending)
        self._frames = FrameDecoder(LIMIT)
        self._hungry: dict[int, bool] = {}
        self._talk: Conversation | None = None
        self._running: list[tuple[int, float]] = []
        self._starting: asyncio.TimerHandle | None = None

    # -- starting -----------------------------------------------------------

    def start(self) -> None:
        """Have the engine make an actor, which starts the worker."""
        try:
            self._sender.setup(self._options.setup())
            placed = self._engine.place(self._order)
        except Exception as error:
            self._loop.call_soon(self._not_started, error)
            return
        self._starting = self._loop.call_later(self._start_timeout, self._start_overdue)
        when_done(self._loop, placed, self._placed, _release_late)

    def _placed(self, placed: Future[Seat]) -> None:
        if self._over:
            _release_late(placed)
            return
        try:
            self._seat = placed.result()
            answer = self._seat.call("open")
        except BaseException as error:
            self._not_started(error)
        else:
            when_done(self._loop, answer, self._opened)

    def _opened(self, answer: Future[Any]) -> None:
        if self._over:
            return
        assert self._seat is not None
        assert self._starting is not None
        try:
            _compare_versions(pickle.loads(answer.result()))
        except WorkerStartError as error:
            self._not_started(error)
            return
        except BaseException as error:  # the actor died, before anything of the user's ran: its machine did
            self._not_started(error, killed=True)
            return
        self._starting.cancel()  # from now on silence is noticed, and a bootstrap may take its time
        self._answering.add(self._options.number)
        self._talk = Conversation(self._loop, self._seat, self._lost_after, self)
        self._talk.begin()

    def _not_started(self, error: BaseException, *, killed: bool = False) -> None:
        if not self._kill_asked:
            self._problem = could_not_start("a worker on the cluster", error)
        self._end(Exit(None, clean=False, problem=self._problem, killed=killed))

    def _start_overdue(self) -> None:
        if self._engine.waits_for_room and self._answering:
            self._starting = self._loop.call_later(self._start_timeout, self._start_overdue)
            return
        where = f" at {self._seat.where}" if self._seat is not None and self._seat.where else ""
        if self._seat is not None:
            self._engine.lost(self._seat)
        self._not_started(TimeoutError(f"nothing was heard of it{where} for {self._start_timeout:g} s"))

    # -- to the worker --------------------------------------------------------

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Pickle tasks; they go with the next call."""
        failed = self._sender.send(items)
        self._outstanding.sent(items, failed)
        return failed

    def hunger(self, id: int, is_hungry: bool) -> None:
        """Say whether somebody waits for a stream's next item."""
        self._hungry[id] = is_hungry
        self._push_soon()

    def _push_soon(self) -> None:
        if self._talk is not None:
            self._talk.push_soon()

    def take_push(self) -> Push | None:
        """All that there is to be said now."""
        push = Push(b"".join(self._control_batch.take()), self._data_batch.take(), self._hungry)
        self._hungry = {}
        self._outstanding.were_pushed()
        return push if any(push) else None

    # -- from the worker ------------------------------------------------------

    def is_busy(self) -> bool:
        """Whether outcomes are waited for."""
        return bool(self._outstanding.tasks)

    def hear(self, reply: Reply, asked: float, answered: float) -> bool:
        """Take an answer; whether another one may be asked for: not while much of it is undelivered."""
        self._outstanding.compare(reply.clock, asked, answered, reply.held)
        self._running = reply.running
        is_last = reply.end is not None
        try:
            self._heard.feed(reply.control)
        except ProtocolError as error:  # a task wrote garbage: to this line, so what the others say holds
            self._spoilt(error)
        for chunk in reply.data:
            self._take(self._frames.feed, chunk)
        self._take(_outcomes, reply.journal)
        self._deliver(inf if is_last else monotonic() + BUDGET)
        if reply.end is not None:
            self._ended_there(reply.end, reply.clock)
        return not is_last and not self._unread

    def _take(self, feed: Callable[[bytes], list[Record]], data: bytes) -> None:
        try:
            self._unread += feed(data)
        except ProtocolError as error:  # a task wrote garbage; what came before it holds
            self._unread += error.records
            self._spoilt(error)

    def _deliver_rest(self) -> None:
        super()._deliver_rest()
        if not self._unread and self._talk is not None:
            self._talk.pull()

    def running(self) -> list[tuple[int, float]]:
        """What runs, as far as it is known here."""
        known = self._outstanding
        return [(id, known.here(start)) for id, start in self._running if id in known.tasks]

    def traffic(self) -> tuple[int, int]:
        """Bytes each way."""
        sent = self._data_batch.written + self._control_batch.written
        return sent, self._frames.taken + self._heard.taken

    async def dump_stack(self) -> str:
        """Have the C code of `faulthandler` tell the stack."""
        return await self._talk.stack() if self._talk is not None else ""

    # -- the end ------------------------------------------------------------------

    def forgo(self) -> None:
        """Wait no longer for a cluster that has no room, or does not answer."""
        if self._talk is None:
            self._end(Exit(0, clean=True))

    def kill(self) -> None:
        """Have SIGKILL sent; the end is reported when the process is gone."""
        self._kill_asked = True
        if self._over:
            return
        if self._talk is None:
            self._end(Exit(-signal.SIGKILL, clean=False))
        else:
            self._signal(signal.SIGKILL)
            self._loop.call_later(KILL_GRACE, self._kill_overdue)

    def _kill_overdue(self) -> None:
        if not self._over:
            self.lost("it was killed, and nothing is heard of it")

    def _signal(self, number: int) -> None:
        if self._talk is not None:
            self._talk.signal(number)

    def abandon(self) -> None:
        """End the worker where the event loop no longer runs."""
        self._over = self._kill_asked = True
        self._release()

    def _ended_there(self, end: End, clock: float) -> None:
        """The process is gone, and all that it left has been delivered."""
        if end.problem is not None:
            self._problem = WorkerStartError(end.problem)
        elif not self._was_ready and self._problem is None and not self._kill_asked:
            self._problem = died_at_start(end.pid, end.code, end.output, self._reason)
        running = [(id, start) for id, start in end.started if id in self._outstanding.tasks]
        self._end(
            Exit(
                end.code,
                self._said_bye and end.code == 0,
                [id for id, _ in running],
                self._problem,
                end.peak_rss,
                end.pid,
                end.stack,
                end.output,
                end.out_of_memory,
                sum(clock - start for _, start in running),
                reason=self._reason,
            )
        )

    def lost(self, reason: str) -> None:
        """Nobody can say what became of the worker, nor which of its tasks it had begun."""
        if self._over:
            return
        assert self._seat is not None
        self._deliver(inf)
        self._engine.lost(self._seat)
        started = self._outstanding.maybe_started()
        where = f" at {self._seat.where}" if self._seat.where else ""
        if not self._was_ready and not self._kill_asked and not started:
            self._problem = self._problem or WorkerStartError(
                f"the worker{where} was lost while it was starting: {reason}"
            )
        self._end(Exit(None, self._said_bye, started, self._problem, reason=f"{reason}{where}"))

    def _end(self, exit: Exit) -> None:
        if self._over:
            return
        self._over = True
        self._release()
        self._owner.link_exited(exit)

    def _release(self) -> None:
        self._answering.discard(self._options.number)
        if self._starting is not None:
            self._starting.cancel()
        if self._talk is not None:
            self._talk.close()
        self._data_batch.close()
        self._control.close()
        super()._release()
        if self._seat is not None:
            self._seat.release()


def _outcomes(journal: bytes) -> list[Record]:
    """What waits behind a long task; where it comes again it is dropped."""
    return [record for record in FrameDecoder(LIMIT).feed(journal) if record[0] in OUTCOMES]


def _release_late(placed: Future[Seat]) -> None:
    """An actor was made, or not, when nobody wanted it any more."""
    if not placed.cancelled() and placed.exception() is None:
        placed.result().release()


def _compare_versions(theirs: dict[str, str]) -> None:
    """Refuse a cluster whose Python or offloop is another one: what is sent would not be understood."""
    for what, version in hello().items():
        if theirs.get(what) != version:
            raise WorkerStartError(f"the cluster has {what} {theirs.get(what)}, and this program {version}")
