"""The soak's waves: tiny tasks by the thousand, and an account that has a byte for each of them."""

from __future__ import annotations

import asyncio
import random
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

from offloop import WorkerCrashed, WorkerPool
from soak import work

#: What became of a task, as a byte.
OPEN, RETURNED, CRASHED, CANCELLED = range(4)
#: How many tasks a wave has at the most.
LARGEST = 4000


class Account:
    """How each numbered task ended, and, from what the tasks wrote themselves, how often each ran.

    Args:
        tasks: how many there will be.
    """

    def __init__(self, tasks: int) -> None:
        self.ended = bytearray(1 + tasks)  # there is no task 0
        self.begun = 0
        self.wrong: list[str] = []

    def begin(self, count: int) -> range:
        """Numbers for so many of them."""
        self.begun += count
        return range(self.begun - count + 1, self.begun + 1)

    def end(self, number: int, outcome: Any, *, may_be_cancelled: bool = False) -> None:
        """Note what a task came to: a result, or an exception.

        Args:
            number: the task's.
            outcome: its result, which is its number, or the exception.
            may_be_cancelled: whether it was cancelled.
        """
        if self.ended[number] != OPEN:
            self.wrong.append(f"task {number} ended twice")
        elif type(outcome) is int and outcome == number:
            self.ended[number] = RETURNED
        elif isinstance(outcome, WorkerCrashed):
            self.ended[number] = CRASHED
        elif may_be_cancelled and isinstance(outcome, asyncio.CancelledError):
            self.ended[number] = CANCELLED
        else:
            self.ended[number] = CRASHED
            self.wrong.append(f"task {number} ended with {outcome!r}")

    def check(self, history: bytes) -> list[str]:
        """Check that each task ended once, ran at most once, and ran if it returned.

        Args:
            history: the number of each task that began to run, in 8 bytes, in any order.

        Returns:
            What is wrong, a line each.
        """
        runs = bytearray(len(self.ended))
        wrong = [*self.wrong, *_count(array("Q", history), runs)]
        for number in range(1, len(runs)):
            ended, ran = self.ended[number], runs[number]
            if ended == OPEN:
                wrong.append(f"task {number} never ended")
            elif ran > 1 or (ended == RETURNED and not ran):
                wrong.append(f"task {number} ran {ran} times, and its outcome is {ended}")
        return wrong

    def counts(self) -> Counter[str]:
        """How many tasks ended in each way."""
        names = "never ended", "result", "WorkerCrashed", "CancelledError"
        counts = {name: self.ended.count(value) for value, name in enumerate(names)}
        counts[names[OPEN]] -= 1
        return Counter({f"wave: {name}": count for name, count in counts.items() if count})


def _count(numbers: array[int], runs: bytearray) -> Iterator[str]:
    for number in numbers:
        if number >= len(runs):
            yield f"task {number} was never enqueued"
        else:
            runs[number] += runs[number] < 255


class Waves:
    """Enqueues waves one after the other, each in one of several ways, until enough tasks were.

    Args:
        pool: where to.
        path: the file in which each task notes that it runs.
        tasks: how many there are to be.
    """

    def __init__(self, pool: WorkerPool, path: str, tasks: int) -> None:
        self._pool = pool
        self._path = path
        self._tasks = tasks
        self.account = Account(tasks)

    async def run(self) -> None:
        """Go on until there are none left; several may do so at a time."""
        ways = [self._submit, self._submit, self._map, self._map_unordered, self._cancel]
        while left := self._tasks - self.account.begun:
            numbers = self.account.begin(min(left, random.randrange(1, LARGEST)))
            await random.choice(ways)(numbers)

    def _submitted(self, numbers: range, *, may_be_cancelled: bool = False) -> list[asyncio.Future[Any]]:
        def ended(number: int, execution: asyncio.Future[Any]) -> None:
            error = asyncio.CancelledError() if execution.cancelled() else execution.exception()
            outcome = execution.result() if error is None else error
            self.account.end(number, outcome, may_be_cancelled=may_be_cancelled)

        executions = []
        for number in numbers:
            executions.append(execution := self._pool.submit(work.counted, self._path, number))
            execution.add_done_callback(lambda done, number=number: ended(number, done))
        return executions

    async def _submit(self, numbers: range) -> None:
        await asyncio.gather(*self._submitted(numbers), return_exceptions=True)

    async def _cancel(self, numbers: range) -> None:
        """Cancel some at once, some as they are sent, run and end."""
        executions = self._submitted(numbers, may_be_cancelled=True)
        for victim in random.sample(executions, len(executions) // 5):
            if random.random() < 0.05:
                await asyncio.sleep(0)
            victim.cancel()
        await asyncio.gather(*executions, return_exceptions=True)

    async def _map(self, numbers: range) -> None:
        paths = [self._path] * len(numbers)
        outcomes = await self._pool.map(work.counted, paths, numbers, return_exceptions=True)
        for number, outcome in zip(numbers, outcomes, strict=True):
            self.account.end(number, outcome)

    async def _map_unordered(self, numbers: range) -> None:
        """As results come in any order, those that fail are known by what is missing."""
        missing = set(numbers)
        failed: list[Any] = []
        paths = [self._path] * len(numbers)
        async for outcome in self._pool.map(
            work.counted, paths, numbers, ordered=False, return_exceptions=True
        ):
            if isinstance(outcome, BaseException):
                failed.append(outcome)
            else:
                missing.discard(outcome)
                self.account.end(outcome, outcome)
        for number, outcome in zip(sorted(missing), failed, strict=True):
            self.account.end(number, outcome)
