"""What the contract's classes stand on: how to make workers, and how a test runs."""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar
from unittest import SkipTest

from offloop import Execution, Worker, WorkerFactory, WorkerPool
from offloop.testing.leaks import Watch

P = ParamSpec("P")
C = TypeVar("C", bound="Contract")
Test = Callable[Concatenate[C, P], Coroutine[Any, Any, None]]
PlainTest = Callable[Concatenate[C, P], None]


class Contract:
    """A context under test; derive from it (or from `WorkerContract`) and set what follows.

    Attributes:
        factory: makes a factory of the context, with ``environment``,
            ``bootstrap`` and ``concurrency`` as keywords: a class as a rule.
        pickles: whether tasks and results are pickled on their way; else they
            are shared.
        can_be_killed: whether a worker can be ended at any instruction, so that
            a task may end its process, and one that ignores its cancellation
            is no more after a kill.
        can_be_interrupted: whether Python code of a running synchronous task
            can be interrupted.
        can_overlap: whether ``concurrency`` is supported.
        bound: seconds that one test may take.
    """

    factory: ClassVar[Callable[..., WorkerFactory]]
    pickles: ClassVar[bool] = True
    can_be_killed: ClassVar[bool] = True
    can_be_interrupted: ClassVar[bool] = True
    can_overlap: ClassVar[bool] = True
    bound: ClassVar[float] = 60.0

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """A new event loop, for one test; asyncio's, unless this is overridden."""
        return asyncio.new_event_loop()

    def worker(self, **options: Any) -> Worker:
        """A new worker of the context; the options are the factory's."""
        return type(self).factory(**options).create()

    def pool(
        self, max_workers: int = 2, *, factory: WorkerFactory | None = None, **options: Any
    ) -> WorkerPool:
        """A new pool of the context's workers; the options are the pool's."""
        return WorkerPool(max_workers, factory=factory or type(self).factory(), **options)


def promise(test: Test[C, P]) -> PlainTest[C, P]:
    """Make an async test one that runs by itself: on an event loop of its own, bounded, without leaks."""

    @functools.wraps(test)
    def run(self: C, /, *args: P.args, **kwargs: P.kwargs) -> None:
        watch = Watch()
        try:
            with warnings.catch_warnings(), asyncio.Runner(loop_factory=self.new_loop) as runner:
                if not self.can_be_killed:
                    warnings.filterwarnings("ignore", ".*abandoned", RuntimeWarning)
                runner.run(_bounded(test(self, *args, **kwargs), self.bound))
        finally:
            leaks = watch.leaks()
        assert not leaks, f"left behind: {leaks}"

    return run


def needs(capability: str, value: bool = True) -> Callable[[PlainTest[C, P]], PlainTest[C, P]]:
    """Skip a test unless this attribute of its class has this value."""

    def decorate(test: PlainTest[C, P]) -> PlainTest[C, P]:
        @functools.wraps(test)
        def run(self: C, /, *args: P.args, **kwargs: P.kwargs) -> None:
            if getattr(self, capability) is not value:
                raise SkipTest(f"{capability} is {not value} for this context")
            test(self, *args, **kwargs)

        return run

    return decorate


async def _bounded(test: Coroutine[Any, Any, None], seconds: float) -> None:
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            await test
    except TimeoutError as error:
        if bound.expired():
            raise AssertionError(f"the test was not done after {seconds} s") from error
        raise


async def outcome(execution: Execution[Any]) -> Any:
    """What becomes of an execution: its result, its exception, or ``"cancelled"``."""
    await asyncio.wait([execution])
    if execution.cancelled():
        return "cancelled"
    error = execution.exception()
    return execution.result() if error is None else error


async def outcomes(executions: list[Execution[Any]]) -> list[Any]:
    """The `outcome` of each."""
    return [await outcome(execution) for execution in executions]


def lines(path: Path) -> list[str]:
    """What tasks have logged in a file so far."""
    return path.read_text().splitlines() if path.exists() else []


async def logged(path: Path, line: str, count: int = 1) -> None:
    """Wait until that line is in a file that often; in whichever context, a file can be seen by both."""
    while lines(path).count(line) < count:  # noqa: ASYNC110  another process sets no event
        await asyncio.sleep(0.005)
