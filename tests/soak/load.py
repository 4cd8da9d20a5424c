"""The soak's load: what is enqueued, and which outcomes each kind of task may have."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from offloop import ChannelClosed, TaskTimeout, WorkerCrashed, WorkerPool
from soak import work


class Kind(NamedTuple):
    """One kind of task.

    Attributes:
        weight: how often it is chosen, beside the others.
        enqueue: enqueues one with this number; returns a future of what it comes to (as a rule the
            execution), and the right result.
        errors: how it may end otherwise, beside `WorkerCrashed`, which any task may meet here.
        cancel: whether it is cancelled some time later.
    """

    weight: float
    enqueue: Callable[[WorkerPool, int, str], tuple[asyncio.Future[Any], Any]]
    errors: tuple[type[BaseException], ...] = ()
    cancel: bool = False


def _large(pool: WorkerPool, number: int, _: str) -> tuple[asyncio.Future[Any], Any]:
    data = number.to_bytes(8, "little") * random.choice([2_000, 20_000, 200_000])
    return pool.submit(work.invert, data), data[::-1]


def _timed_out(pool: WorkerPool, number: int, _: str) -> tuple[asyncio.Future[Any], Any]:
    function = random.choice([work.doze, work.spin, work.adoze])
    return pool.options(timeout=0.01).submit(function, 5.0, number), None


def _stream(pool: WorkerPool, number: int, _: str) -> tuple[asyncio.Future[Any], Any]:
    """A stream that is read to its end, or left early."""
    count = number % 300
    wanted = random.choice([count, count // 2])

    async def read() -> list[int]:
        items: list[int] = []
        async with pool.stream(work.count_up, count) as stream:
            while len(items) < wanted:
                items.append(await anext(stream))
        return items

    return asyncio.ensure_future(read()), list(range(wanted))


def _talk(pool: WorkerPool, number: int, _: str) -> tuple[asyncio.Future[Any], Any]:
    """A task that asks back, and reports."""

    async def answer() -> tuple[int, int]:
        execution = pool.submit(work.ask, number)
        try:
            question = await execution.channel.receive()
            await execution.channel.send(question + 1)
        except ChannelClosed:
            pass  # the worker died: the execution says so
        reports = [report.done async for report in execution.progress()]
        return await execution, len(reports)

    return asyncio.ensure_future(answer()), (number + 1, 2)


KINDS = {
    "tiny": Kind(100, lambda pool, n, _: (pool.submit(work.echo, n), n)),
    "failing": Kind(3, lambda pool, n, _: (pool.submit(work.fail, n), None), (work.Expected,)),
    "long": Kind(1, lambda pool, n, _: (pool.submit(work.doze, 0.01, n), n)),
    "async": Kind(2, lambda pool, n, _: (pool.submit(work.adoze, 0.002, n), n)),
    "huge": Kind(0.5, _large),
    "keyed": Kind(5, lambda pool, n, _: (pool.options(key=n % 7).submit(work.echo, n), n)),
    "urgent": Kind(2, lambda pool, n, _: (pool.options(priority=1).submit(work.echo, n), n)),
    "retried": Kind(2, lambda pool, n, _: (pool.options(retries=5).submit(work.doze, 0.001, n), n)),
    "timeout": Kind(0.2, _timed_out, (TaskTimeout,)),
    "cancelled": Kind(
        2, lambda pool, n, _: (pool.submit(work.doze, 0.005, n), n), (asyncio.CancelledError,), cancel=True
    ),
    "stream": Kind(1, _stream),
    "talk": Kind(1, _talk),
    "recorded": Kind(3, lambda pool, n, path: (pool.submit(work.recorded, path, n), n)),
}


class Load:
    """Keeps a pool busy, and checks how each task ends.

    Args:
        pool: where to.
        history: the file in which recorded tasks note when they begin and end.
        depth: how many tasks are outstanding.
    """

    def __init__(self, pool: WorkerPool, history: str, depth: int) -> None:
        self._pool = pool
        self._history = history
        self._room = asyncio.Semaphore(depth)
        self._loop = asyncio.get_running_loop()
        self._names = list(KINDS)
        self._weights = [kind.weight for kind in KINDS.values()]
        self.enqueued = 0
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.finished: dict[int, bool] = {}  # recorded tasks: whether they returned
        self.open: dict[int, tuple[str, asyncio.Future[Any]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Enqueue until told to stop, then wait until everything has ended."""
        while not stop.is_set():
            for name in random.choices(self._names, self._weights, k=64):
                await self._room.acquire()
                self._enqueue(name)
            await asyncio.sleep(0)
        while self.open:
            await asyncio.wait([execution for _, execution in self.open.values()])

    def _enqueue(self, name: str) -> None:
        kind = KINDS[name]
        self.enqueued = number = self.enqueued + 1
        execution, right = kind.enqueue(self._pool, number, self._history)
        self.open[number] = name, execution
        execution.add_done_callback(lambda done: self._ended(number, name, done, right))
        if kind.cancel:
            self._loop.call_later(random.random() * 0.02, execution.cancel)

    def _ended(self, number: int, name: str, execution: asyncio.Future[Any], right: Any) -> None:
        if self.open.pop(number, None) is None:
            self.wrong.append(f"{name} {number} ended twice")
            return
        self._room.release()
        error = asyncio.CancelledError() if execution.cancelled() else execution.exception()
        if error is None and execution.result() != right:
            self.wrong.append(f"{name} {number} has a wrong result")
        if error is not None and not isinstance(error, (*KINDS[name].errors, WorkerCrashed)):
            self.wrong.append(f"{name} {number} ended with {error!r}")
        if name == "recorded":
            self.finished[number] = error is None
        self.outcomes[f"{name}: {'result' if error is None else type(error).__name__}"] += 1


def check_history(text: str, finished: dict[int, bool]) -> list[str]:
    """Check from what the tasks noted themselves that each ran at most once, and to its end if it returned.

    Args:
        text: the file's content.
        finished: each recorded task, and whether its execution has a result.

    Returns:
        What is wrong, a line each.
    """
    starts: Counter[int] = Counter()
    ends: Counter[int] = Counter()
    for line in text.splitlines():
        word, number = line.split()
        (starts if word == "start" else ends)[int(number)] += 1
    wrong = [f"task {number} ran {count} times" for number, count in starts.items() if count > 1]
    wrong += [
        f"task {number} returned and ran {starts[number]} times, to its end {ends[number]} times"
        for number, returned in finished.items()
        if returned and (starts[number], ends[number]) != (1, 1)
    ]
    return wrong + [f"task {number} was never enqueued" for number in starts if number not in finished]
