"""P2: how long one task takes from submit to result, when nothing else goes on."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from time import perf_counter

from benchmarks import peers
from benchmarks.model import Case, Cell, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.timing import quantile, time_each
from benchmarks.work import by_value, noop

OURS = "offloop"
RAW = "raw ping-pong"
ACROSS = "raw ping-pong between two CPUs"
LOOP = "ping-pong by asyncio"
EXECUTOR = "ProcessPoolExecutor"
#: About what a small task's message takes.
MESSAGE = b"x" * 64

ECHO = """
import socket, sys
peer = socket.socket(fileno=int(sys.argv[1]))
while data := peer.recv(65536):
    peer.sendall(data)
"""


@asynccontextmanager
async def one_by_one(
    settings: Settings, *, opener: peers.Opener, full: int, quick: int, local: bool = False
) -> AsyncIterator[Measure]:
    """Time ``await submit(noop)`` again and again: each from the call until the result is there.

    Args:
        settings: of the run.
        opener: opens the pool, which is warm when the clock runs.
        full: number of calls.
        quick: the same, in a quick run.
        local: the function travels by value, as if it were defined in ``__main__``.
    """
    function = by_value(noop) if local else noop
    count = settings.size(full, quick)
    async with opener(settings.workers) as call:
        await time_each(call, function, 20)

        async def measure() -> Sample:
            return _summary(await time_each(call, function, count))

        yield measure


@asynccontextmanager
async def ping_pong(settings: Settings, *, across: bool = False) -> AsyncIterator[Measure]:
    """Time ``send``, ``epoll``, ``recv`` of 64 bytes, against a process that blocks in ``recv`` and echoes.

    No event loop takes part: what the operating system needs to wake the other
    process and to be woken by it.

    Args:
        settings: of the run.
        across: keep the two on CPUs of their own, as a parent and a busy worker are.  Left alone, the
            kernel may run both by turns on one, where waking the other takes a fraction of the time.
    """
    count = settings.size(2_000, 1_000)
    with _echo() as (peer, pid), select.epoll() as epoll:
        epoll.register(peer, select.EPOLLIN)
        if across:
            _keep_apart(pid)

        async def measure() -> Sample:
            return _summary([_one_ping(peer, epoll) for _ in range(count)])

        yield measure


@asynccontextmanager
async def loop_ping_pong(settings: Settings) -> AsyncIterator[Measure]:
    """Time the same through an asyncio loop: ``send``, await a future, which a reader callback sets.

    No goal refers to it.  It shows how much of the distance to the raw figure
    is the event loop's.
    """
    count = settings.size(2_000, 1_000)
    loop = asyncio.get_running_loop()
    answered = loop.create_future()

    def read() -> None:
        answered.set_result(peer.recv(65536))

    async def ping() -> float:
        nonlocal answered
        began = perf_counter()
        answered = loop.create_future()
        peer.send(MESSAGE)
        answer = await answered
        seconds = perf_counter() - began
        assert len(answer) == len(MESSAGE)
        return seconds

    with _echo() as (peer, _):
        loop.add_reader(peer, read)

        async def measure() -> Sample:
            return _summary([await ping() for _ in range(count)])

        yield measure
        loop.remove_reader(peer)


@contextmanager
def _echo() -> Iterator[tuple[socket.socket, int]]:
    """A socket whose other end sends back what it gets; and the process there, which blocks in ``recv``."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    number = theirs.fileno()
    command = [sys.executable, "-I", "-S", "-c", ECHO, str(number)]
    with ours, subprocess.Popen(command, pass_fds=[number]) as process:
        theirs.close()
        try:
            yield ours, process.pid
        finally:
            ours.shutdown(socket.SHUT_WR)  # the echo reads end of file, and ends


def _keep_apart(pid: int) -> None:
    """Keep this process on one CPU, and another one on another."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise RuntimeError("there is only one CPU")
    os.sched_setaffinity(0, {cpus[0]})
    os.sched_setaffinity(pid, {cpus[1]})


def _one_ping(peer: socket.socket, epoll: select.epoll) -> float:
    began = perf_counter()
    peer.send(MESSAGE)
    epoll.poll()
    answer = peer.recv(65536)
    seconds = perf_counter() - began
    assert len(answer) == len(MESSAGE)
    return seconds


def _summary(times: list[float]) -> Sample:
    return {"p50": quantile(times, 0.5), "p99": quantile(times, 0.99)}


PEERS = {
    EXECUTOR: partial(one_by_one, opener=peers.process_pool_executor, full=1_000, quick=500),
    "loky": partial(one_by_one, opener=peers.loky, full=500, quick=300),
    "pebble": partial(one_by_one, opener=peers.pebble, full=500, quick=300),
    "anyio": partial(one_by_one, opener=peers.anyio, full=1_000, quick=500),
    "aiomultiprocess": partial(one_by_one, opener=peers.aiomultiprocess, full=100, quick=50),
}
#: These wake up regularly even when idle.
RESTLESS = {"pebble", "aiomultiprocess"}


def lines(_results: Results) -> Sequence[Line]:
    """The median against the wire and the standard pool; the tail for information."""
    p50: dict[str, Cell] = {name: (name, "p50") for name in PEERS}
    p99: dict[str, Cell] = {name: (name, "p99") for name in PEERS}
    return [
        Line(
            "one task, submit to result, p50",
            (OURS, "p50"),
            (RAW, (RAW, "p50")),
            {LOOP: (LOOP, "p50"), **p50},
            Goal(1.5),
        ),
        Line("the same against one between two CPUs", (OURS, "p50"), (ACROSS, (ACROSS, "p50"))),
        Line("the same against the executor", (OURS, "p50"), (EXECUTOR, p50[EXECUTOR]), goal=Goal(0.5)),
        Line("p99", (OURS, "p99"), (RAW, (RAW, "p99")), p99),
        Line("no-op defined in __main__, p50", (f"{OURS} by value", "p50"), (RAW, (RAW, "p50"))),
    ]


CASE = Case(
    "P2",
    "one task, submit to result, one after the other",
    [
        Contender(OURS, partial(one_by_one, opener=peers.offloop, full=2_000, quick=1_000)),
        Contender(RAW, ping_pong),
        Contender(ACROSS, partial(ping_pong, across=True)),
        Contender(LOOP, loop_ping_pong),
        Contender(
            f"{OURS} by value",
            partial(one_by_one, opener=peers.offloop, full=2_000, quick=1_000, local=True),
        ),
        *(
            Contender(name, session, name in RESTLESS, name not in RESTLESS, optional=name != EXECUTOR)
            for name, session in PEERS.items()
        ),
    ],
    lines,
)
