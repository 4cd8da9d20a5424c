"""What runs in a worker for `map`: a function over a chunk of items, as one task.

A chunk's outcome is a tuple ``(seconds, values, failures)``: its running time,
one value an item, and the failures, or None.  An item that failed has None as
its value and its exception in the failures; the other items are not affected.
Cancellation is the exception: it ends the chunk.

A chunk that is a bet has more items than is known to be wise.  It finds out for
itself how long they take, and gives back those for which there is no time: its
outcome has fewer values, and the items behind them have not been begun.
"""

from __future__ import annotations

import sys
import time
from itertools import islice
from sys import getrefcount
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from offloop.child.keeping import AsIs
from offloop.child.lowlevel import cast
from offloop.child.settled import ALONE, forget_classes, is_flat, is_settled
from offloop.errors import TaskCancelled
from offloop.task import current_task
from offloop.wire.byvalue import type_of
from offloop.wire.exceptions import store, stored

TYPE_CHECKING = False

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from offloop.child.keeping import Outcome, Pickled
    from offloop.child.running import RunningTask


#: A bet goes on with at most so many times the items that it has run already.
GROWTH = 4.0
NUMBERS = (float, type(None), bool, complex)
#: Of an integer that costs no more than others.
MOST_BITS = 512
#: Characters or bytes of a text that costs no more than a number.
SHORT = 100
#: Parts of such a tuple.
FEW = 4


def is_light(value: object) -> bool:
    """Whether pickling a value takes next to no time: a number, a short text, a few of these in a tuple."""
    if type(value) is tuple:
        row = cast("tuple[object, ...]", value)
        return len(row) <= FEW and all(map(_is_atom, row))
    return _is_atom(value)


def _is_atom(value: object) -> bool:
    kind = type(value)  # which a metaclass may leave unhashable
    if kind is int:
        return cast("int", value).bit_length() <= MOST_BITS
    if kind is str or kind is bytes:
        return len(cast("str | bytes", value)) <= SHORT
    return any(kind is each for each in NUMBERS)


def run_chunk(
    fn: Callable[[Any], Any], items: Sequence[Any], seconds: float | None = None
) -> Outcome | Coroutine[Any, Any, Outcome]:
    """Call ``fn(item)`` for each item; see the module's docstring for the outcome.

    Awaitables and async generators that ``fn`` returns are awaited one after
    the other, in the coroutine that is then returned; generators become lists.

    Args:
        fn: the function.
        items: its arguments, at least one.
        seconds: what a bet may take; it goes on with more items for as long as the results are numbers
            and short texts.

    Raises:
        TaskCancelled: the chunk was cancelled.
    """
    return _Run(fn, items).run(seconds)


def run_star_chunk(
    fn: Callable[..., Any], items: Sequence[tuple[Any, ...]], seconds: float | None = None
) -> Outcome | Coroutine[Any, Any, Outcome]:
    """Call ``fn(*item)`` for each item, otherwise as `run_chunk`."""
    return _Run(lambda item: fn(*item), items, frames=2).run(seconds)


class _Run:
    """A chunk under way.

    Args:
        fn: what is called with each item.
        items: the items.
        frames: how many frames of this module are between a failure and the user's function.
    """

    def __init__(self, fn: Callable[[Any], Any], items: Sequence[Any], frames: int = 1) -> None:
        self._began = time.perf_counter()
        self._fn = fn
        self._items = iter(items)
        self._size = len(items)
        self._frames = frames
        self._values: list[Any] = []
        self._waiting: dict[int, Any] = {}  # what is to be awaited, by index
        self._task = task = _running_task()
        self._keep: AsIs | Pickled = AsIs(_as_task_failed) if task is None else task.keeper()
        self._pickles = self._keep.pickles

    def run(self, seconds: float | None) -> Outcome | Coroutine[Any, Any, Outcome]:
        """Make the calls."""
        if seconds is None:
            self._call_until(self._size)
        else:
            self._bet(seconds)
        return self._await_each() if self._waiting else self._outcome()

    def _bet(self, seconds: float) -> None:
        """Begin with one item, and go on with more of them while that is wise."""
        values = self._values
        more = 1
        while more > 0:
            self._call_until(len(values) + more)
            latest = len(values) - 1
            if latest in self._waiting or self._keep.has_taken(latest) or not is_light(values[latest]):
                break
            in_time = seconds / max(time.perf_counter() - self._began, 1e-9) - 1
            more = min(int(len(values) * min(in_time, GROWTH)), self._size - len(values))

    def _call_until(self, size: int) -> None:
        """Go on until there are ``size`` values."""
        fn, values, pickles = self._fn, self._values, self._pickles
        pending = () if self._task is None else self._task.cancellations
        while len(values) < size:
            items = self._items if size == self._size else islice(self._items, size - len(values))
            try:
                for item in items:
                    value = fn(item)
                    if value is not None:
                        kind = type_of(value)
                        if not (kind is int or kind is str or kind is float or kind is bytes or kind is bool):
                            is_ours = getrefcount(value) <= ALONE
                            if not (pickles and is_flat(value, kind, is_ours)):
                                value = self._taken(value, kind, is_ours)
                    values.append(value)
                    if pending:
                        self._check()
            except BaseException as error:
                self._keep.failure(len(values), self._contained(error, self._frames))
                values.append(None)

    def _taken(self, value: Any, kind: type[Any], is_ours: bool) -> Any:
        """Take in a result that is not as simple as most; returns what stands for it among the values."""
        index = len(self._values)
        is_last = index + 1 == self._size and not self._waiting
        if self._pickles and not is_last and is_settled(value, is_ours):
            return self._keep.settled(index, value)
        if kind is GeneratorType:
            return self._taken(list(value), list, is_ours=True)
        # A look for what a class lacks takes long, so that it is spared those that are known to lack it.
        if not (kind is dict or kind is list or kind is tuple) and _is_to_be_awaited(kind):
            self._waiting[index] = value
            return None
        return self._keep.result(index, value, is_last=is_last)

    def _check(self) -> None:
        """End the chunk if it was cancelled, and that item had caught what it got."""
        if self._task is not None and len(self._values) < self._size:
            self._task.raise_if_cancelled()

    def _outcome(self) -> Outcome:
        forget_classes()
        return self._keep.outcome(time.perf_counter() - self._began, self._values)

    def _contained(self, error: BaseException, frames: int) -> BaseException:
        """The exception to hand over for an item that failed with ``error``, without so many frames.

        Raises:
            TaskCancelled: the chunk was cancelled, and ``error`` came of that.
        """
        if self._task is not None:
            self._task.raise_if_cancelled()
        trace = stored(error, "__traceback__")
        for _ in range(frames):
            trace = trace.tb_next if trace is not None else None
        store(error, "__traceback__", trace)
        return error

    async def _await_each(self) -> Outcome:
        waiting, runner = [*reversed(self._waiting.items())], _asyncio_task()
        try:
            while waiting:
                index, value = waiting.pop()
                try:
                    value = await _settle(value)
                    if not (self._pickles and is_flat(value, type_of(value), is_ours=False)):
                        value = self._keep.result(index, value, is_last=not waiting)
                    self._values[index] = value
                except BaseException as error:
                    if _is_from_outside(error, runner):
                        raise
                    self._keep.failure(index, self._contained(error, frames=2))
                if waiting and runner is not None and runner.cancelling():
                    raise TaskCancelled("the task was cancelled")
        except BaseException:
            for _, value in waiting:  # or Python warns that they were never awaited
                if type_of(value) is CoroutineType:
                    value.close()
            raise
        return self._outcome()


def _running_task() -> RunningTask | None:
    """The task that runs this chunk; None outside a worker."""
    try:
        return cast("RunningTask", current_task())
    except LookupError:
        return None


def _is_to_be_awaited(kind: type[Any]) -> bool:
    return hasattr(kind, "__await__") or kind is AsyncGeneratorType


async def _settle(value: Any) -> Any:
    """What an awaitable or an async generator comes to, as a plain ``enqueue`` would resolve it."""
    if type_of(value) is AsyncGeneratorType:
        return [item async for item in value]
    return await value


def _asyncio_task() -> asyncio.Task[Any] | None:
    """The asyncio task that runs now, or None."""
    tasks = sys.modules.get("asyncio.tasks")
    try:
        return tasks.current_task() if tasks is not None else None
    except RuntimeError:  # no loop runs
        return None


def _is_from_outside(error: BaseException, runner: asyncio.Task[Any] | None) -> bool:
    """Whether no item raised this by itself: the chunk, which ``runner`` runs, is closed or cancelled."""
    if issubclass(type(error), GeneratorExit):
        return runner is None or _asyncio_task() is not runner  # what runs can't be closed
    return _is_cancelled_error(error) and runner is not None and runner.cancelling() > 0


def _is_cancelled_error(error: BaseException) -> bool:
    exceptions = sys.modules.get("asyncio.exceptions")  # without it there is none
    return exceptions is not None and issubclass(type(error), exceptions.CancelledError)


def _as_task_failed(error: BaseException) -> BaseException:
    """The error, or a `TaskFailed` in place of one that would end a program or a loop where it is raised."""
    import pickle

    from offloop.wire.failure import decode_failure, encode_failure, is_control_flow

    if not is_control_flow(type(error)):
        return error
    return decode_failure(encode_failure(error, pickle.dumps, pickle.loads), pickle.loads)
