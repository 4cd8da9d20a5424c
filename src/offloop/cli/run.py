"""Carry out ``offloop map``: inputs into a pool, results and failures out of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from offloop.cli.arguments import Options
from offloop.cli.inputs import Inputs
from offloop.cli.target import find_function, one_line

if TYPE_CHECKING:
    from offloop.workerpool import WorkerPool

#: Inputs in flight for each worker of an unordered run: enough to hide latency.
_WINDOW = 16


class Screen(Protocol):
    """Where lines and progress are shown."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def __call__(self, done: int, total: int | None = None) -> None:
        """Show how many inputs are done."""
        ...

    def write(self, line: str, file: IO[str]) -> None:
        """Write one line."""
        ...


class Plain(AbstractContextManager["Plain"]):
    """A screen without a bar."""

    def __exit__(self, *exc_info: object) -> None:
        """Nothing to put away."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show nothing."""

    def write(self, line: str, file: IO[str]) -> None:
        """Write one line, at once: the reader may be waiting for it."""
        file.write(line + "\n")
        file.flush()


def _new_pool(max_workers: int | None, factory: str) -> WorkerPool:
    from offloop.workerpool import WorkerPool

    return WorkerPool(max_workers, factory=factory)


def run_map(options: Options, make_pool: Callable[..., WorkerPool] = _new_pool) -> int:
    """Run the command.

    Args:
        options: the parsed command line.
        make_pool: called with ``max_workers`` and ``factory`` instead of
            `offloop.WorkerPool`.

    Returns:
        0 if every input went well, else 1.

    Raises:
        UsageError: the function or an input file is not there.
        BrokenPipeError: stdout was closed; the pool has been shut down.
        KeyboardInterrupt: likewise.
    """
    function = find_function(options.target)
    with Inputs(options.inputs) as inputs, _screen(options.target, inputs) as screen:
        return asyncio.run(_run(options, function, inputs, screen, make_pool))


def _screen(title: str, inputs: Inputs) -> Screen:
    if not sys.stderr.isatty():
        return Plain()
    try:
        from offloop.cli.bar import Bar
    except ImportError:
        return Plain()
    return Bar(title, inputs.count())


async def _run(
    options: Options,
    function: Callable[..., Any],
    inputs: Inputs,
    screen: Screen,
    make_pool: Callable[..., WorkerPool],
) -> int:
    outcomes = _unordered if options.unordered else _ordered
    failed = False

    def show(done: int, total: int | None) -> None:
        # The screen itself would be taken for a bar that `map` may close.
        screen(done, total)

    async with (
        make_pool(max_workers=options.workers, factory=options.context) as pool,
        aclosing(outcomes(pool, function, inputs, options.timeout, show)) as pairs,
    ):
        async for item, outcome in pairs:
            if isinstance(outcome, BaseException):
                failed = True
                screen.write(f"{item}: {one_line(outcome)}", sys.stderr)
            else:
                screen.write(to_json(outcome), sys.stdout)
    return int(failed)


async def _ordered(
    pool: WorkerPool,
    function: Callable[..., Any],
    inputs: Inputs,
    timeout: float | None,
    progress: Callable[[int, int | None], None],
) -> AsyncGenerator[tuple[str, Any], None]:
    """Each input with its result or exception, in the order of the inputs."""
    taken: deque[str] = deque()  # inputs that the pool has, and whose results are still to come

    async def recorded() -> AsyncGenerator[str, None]:
        async for item in inputs:
            taken.append(item)
            yield item

    results = pool.map(function, recorded(), timeout=timeout, return_exceptions=True, progress=progress)
    async with aclosing(results):
        async for result in results:
            yield taken.popleft(), result


async def _unordered(
    pool: WorkerPool,
    function: Callable[..., Any],
    inputs: Inputs,
    timeout: float | None,
    progress: Callable[[int, int | None], None],
) -> AsyncGenerator[tuple[str, Any], None]:
    """Each input with its result or exception, as they end.

    By `submit` and not by ``map(ordered=False)``, whose results do not tell
    which input a crash or a timeout belongs to.
    """
    caller = pool.options(timeout=timeout)
    ended: asyncio.Queue[tuple[str, asyncio.Future[Any]] | None] = asyncio.Queue()
    room = asyncio.Semaphore(_WINDOW * pool.max_workers)

    def note(item: str, execution: asyncio.Future[Any]) -> None:
        ended.put_nowait((item, execution))

    async def feed() -> int:
        count = 0
        async for item in inputs:
            await room.acquire()
            execution = caller.submit(function, item)
            execution.add_done_callback(partial(note, item))
            count += 1
        return count

    feeder = asyncio.create_task(feed())
    feeder.add_done_callback(lambda _: ended.put_nowait(None))  # wakes the loop below
    done = 0
    try:
        while not feeder.done() or done < feeder.result():
            if (pair := await ended.get()) is None:
                continue
            room.release()
            done += 1
            progress(done, None)
            yield pair[0], _outcome(pair[1])
    finally:
        feeder.cancel()


def _outcome(execution: asyncio.Future[Any]) -> Any:
    """The result or the exception of an execution that has ended."""
    if execution.cancelled():
        return asyncio.CancelledError()
    error = execution.exception()
    return execution.result() if error is None else error


def to_json(value: object) -> str:
    """One line of JSON; what JSON cannot express becomes the string of its ``repr``."""
    try:
        return json.dumps(value, default=_repr, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # odd keys, NaN, cycles, great depth
        return json.dumps(_repr(value))


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)
