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
from itertools import islice, starmap
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from offloop.errors import TaskFailed
from offloop.task import current_task
from offloop.wire.exceptions import store, stored

TYPE_CHECKING = False

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from typing import Any, TypeAlias, cast
else:

    def cast(_: object, value: object) -> object:
        """`typing.cast` without its module."""
        return value


#: A bet goes on with at most so many times the items that it has run already.
GROWTH = 4.0
NUMBERS = (float, type(None), bool, complex)
#: Of an integer that costs no more than others.
MOST_BITS = 512
#: Characters or bytes of a text that costs no more than a number.
SHORT = 100
#: Parts of such a tuple.
FEW = 4


class Failures:
    """The exceptions of a chunk's failed items, by their index within the chunk.

    A worker that shares memory with the parent hands them over as they are.
    When they are pickled they travel as every failure of a task does, so that
    one which cannot be pickled arrives as a `TaskFailed`.
    """

    __slots__ = ("errors",)

    def __init__(self, errors: dict[int, BaseException]) -> None:
        self.errors = errors

    def __reduce__(self) -> tuple[Any, ...]:
        import pickle

        import cloudpickle

        from offloop.wire.failure import encode_failure

        # cloudpickle's own annotations are partial.
        dumps = cast("Callable[[object], bytes]", cloudpickle.dumps)  # pyright: ignore[reportUnknownMemberType]
        encoded = [(i, encode_failure(e, dumps, pickle.loads)) for i, e in self.errors.items()]
        return (_load_failures, (encoded,))


def _load_failures(encoded: list[tuple[int, Any]]) -> Failures:
    import pickle

    from offloop.wire.failure import decode_failure

    return Failures({index: decode_failure(failure, pickle.loads) for index, failure in encoded})


Outcome: TypeAlias = "tuple[float, list[Any], Failures | None]"


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
    return _run(map(fn, items), len(items), seconds)


def run_star_chunk(
    fn: Callable[..., Any], items: Sequence[tuple[Any, ...]], seconds: float | None = None
) -> Outcome | Coroutine[Any, Any, Outcome]:
    """Call ``fn(*item)`` for each item, otherwise as `run_chunk`."""
    return _run(starmap(fn, items), len(items), seconds)


def _run(calls: Iterator[Any], size: int, seconds: float | None) -> Outcome | Coroutine[Any, Any, Outcome]:
    began = time.perf_counter()
    values: list[Any] = []
    errors: dict[int, BaseException] = {}
    if seconds is None:
        _call_each(calls, size, values, errors, has_no_more=True)
    else:
        _bet(calls, size, values, errors, seconds)
    kinds = _kinds(values)
    if any(hasattr(kind, "__await__") or kind is AsyncGeneratorType for kind in kinds):
        return _await_each(values, errors, began)
    if GeneratorType in kinds:
        _exhaust_each(values, errors)
    return _outcome(values, errors, began)


def _bet(
    calls: Iterator[Any], size: int, values: list[Any], errors: dict[int, BaseException], seconds: float
) -> None:
    """Begin with one item, and go on with more of them while that is wise."""
    began = time.perf_counter()
    more = 1
    while more > 0:
        _call_each(calls, len(values) + more, values, errors, has_no_more=False)
        if not is_light(values[-1]):
            break
        in_time = seconds / max(time.perf_counter() - began, 1e-9) - 1
        more = min(int(len(values) * min(in_time, GROWTH)), size - len(values))


def _call_each(
    calls: Iterator[Any],
    size: int,
    values: list[Any],
    errors: dict[int, BaseException],
    *,
    has_no_more: bool,
) -> None:
    """Take from ``calls`` until there are ``size`` values."""
    while len(values) < size:
        try:
            # The fastest loop there is, and one that stays in C.  What it got
            # before an exception stays in the list, and `calls` goes on behind
            # the item that failed.
            values.extend(calls if has_no_more else islice(calls, size - len(values)))
            if len(values) < size:  # a StopIteration out of `fn` ends `extend` without a word
                errors[len(values)] = TaskFailed("StopIteration", "")
                values.append(None)
        except BaseException as error:
            errors[len(values)] = _contained(error)
            values.append(None)


def _outcome(values: list[Any], errors: dict[int, BaseException], began: float) -> Outcome:
    return time.perf_counter() - began, values, Failures(errors) if errors else None


def _kinds(values: list[Any]) -> Iterable[type[Any]]:
    """The types that occur, at some 20 ns a value."""
    try:
        return set(map(type, values))
    except TypeError:  # a metaclass may leave its classes unhashable
        return list(map(type, values))


def _exhaust_each(values: list[Any], errors: dict[int, BaseException]) -> None:
    for index, value in enumerate(values):
        kind = cast("type[object]", type(value))
        if kind is GeneratorType:
            try:
                values[index] = list(value)
            except BaseException as error:
                values[index] = None
                errors[index] = _contained(error)


async def _await_each(values: list[Any], errors: dict[int, BaseException], began: float) -> Outcome:
    index, runner = 0, _asyncio_task()
    try:
        for index, value in enumerate(values):
            try:
                values[index] = await _settle(value)
            except BaseException as error:
                if _is_from_outside(error, runner):
                    raise
                values[index] = None
                errors[index] = _contained(error)
    except BaseException:
        for value in values[index:]:  # or Python warns that they were never awaited
            kind = cast("type[object]", type(value))
            if kind in (CoroutineType, GeneratorType):
                value.close()
        raise
    return _outcome(values, errors, began)


async def _settle(value: Any) -> Any:
    """The result that ``value`` stands for, as a plain ``enqueue`` would resolve it."""
    kind = cast("type[object]", type(value))
    if hasattr(kind, "__await__"):
        return await value
    if kind is AsyncGeneratorType:
        return [item async for item in value]
    return list(value) if kind is GeneratorType else value


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


def _contained(error: BaseException) -> BaseException:
    """The exception to hand over for an item that failed with ``error``.

    Raises:
        TaskCancelled: the chunk was cancelled, and ``error`` came of that.
    """
    try:
        current_task().raise_if_cancelled()
    except LookupError:  # called outside a worker
        pass
    trace = stored(error, "__traceback__")
    store(
        error, "__traceback__", trace.tb_next if trace is not None else None
    )  # leave out this file's own frame
    return _as_task_failed(error)


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
