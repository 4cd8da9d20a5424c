"""What the items of a map's chunk came to, kept until the outcome of the chunk is sent.

A result is kept as it is when its item returns.  A function may return the same
list or array each time, with other content: with tasks of their own each result
would be pickled before the next call, and so it is here.  What nobody can
change needs no such care, and is pickled with others of its class once all items
were called: by the thousand, that takes a third of the time.
"""

from __future__ import annotations

from _pickle import PickleBuffer

from offloop.child.faults import unloadable_reply, unpicklable
from offloop.child.layout import LargeBuffers
from offloop.child.lowlevel import cast
from offloop.errors import SerializationError, TaskCancelled
from offloop.wire.byvalue import type_of
from offloop.wire.cpickle import loads
from offloop.wire.pickling import defined

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    #: Seconds that a chunk took, a value for each item that was run, and what failed.
    Outcome: TypeAlias = "tuple[float, list[Any], Failures | None]"


class Failures:
    """The exceptions of a chunk's failed items, by their index within the chunk."""

    __slots__ = ("errors",)

    def __init__(self, errors: dict[int, BaseException]) -> None:
        self.errors = errors


class AsIs:
    """Keeps the objects themselves, where the parent shares this process's memory.

    Args:
        seen_by_parent: gives the exception that the parent is to see.
    """

    #: Whether results are pickled: those that are not settled have to be kept at once.
    pickles = False

    def __init__(self, seen_by_parent: Callable[[BaseException], BaseException]) -> None:
        self._seen_by_parent = seen_by_parent
        self._errors: dict[int, BaseException] = {}

    def result(self, index: int, value: Any, *, is_last: bool) -> Any:
        """Keep the result of an item; returns what stands for it among the values.

        Args:
            index: of the item, within its chunk.
            value: the result.
            is_last: whether no other item follows.
        """
        return value

    def settled(self, index: int, value: Any) -> Any:
        """As `result`, for one that is settled; it raises nothing."""
        return value

    def has_taken(self, index: int) -> bool:
        """Whether something else stands for this result, the latest one, among the values."""
        return False

    def failure(self, index: int, error: BaseException) -> None:
        """Keep what an item raised."""
        self._errors[index] = self._seen_by_parent(error)

    def outcome(self, seconds: float, values: list[Any]) -> Outcome:
        """The outcome of the chunk."""
        return seconds, values, Failures(self._errors) if self._errors else None


class Pickled:
    """Keeps pickles; `load_kept` puts what they hold into the outcome at the other end.

    Args:
        encode: pickles a result, as `offloop.wire.codec.ReplyEncoder.encode`.
        encode_failure: pickles an exception; raises nothing.
    """

    pickles = True

    def __init__(
        self, encode: Callable[..., bytes], encode_failure: Callable[[BaseException], bytes]
    ) -> None:
        self._encode = encode
        self._encode_failure = encode_failure
        self._latest = -1  # the index of the result that was taken last
        self._settled: dict[type[Any], tuple[list[int], list[Any]]] = {}  # indices and results, by class
        self._names: dict[type[Any], bytes] = {}
        self._together: list[tuple[Any, ...]] = []
        self._alone: list[tuple[Any, ...]] = []
        self._failures: list[tuple[int, bytes]] = []
        self._values: list[Any] = []

    def result(self, index: int, value: Any, *, is_last: bool) -> None:
        """As `AsIs.result`; large buffers are copied, unless no other item follows.

        Raises:
            SerializationError: it can't be pickled.
        """
        large = LargeBuffers()
        try:
            data = self._encode(value, large.take)
        except TaskCancelled:
            raise
        except BaseException as error:  # user code: it may exit
            raise unpicklable("a result", value, error) from error
        buffers = map(PickleBuffer, large if is_last else map(_copied, large))
        self._alone.append((self._name_of(type_of(value)), index, data, *buffers))
        self._latest = index

    def settled(self, index: int, value: Any) -> None:
        """As `AsIs.settled`; it is pickled with others of its class."""
        alike = self._settled.get(kind := type_of(value))
        if alike is None:
            alike = self._settled[kind] = [], []
        alike[0].append(index)
        alike[1].append(value)
        self._latest = index

    def has_taken(self, index: int) -> bool:
        """As `AsIs.has_taken`."""
        return self._latest == index

    def failure(self, index: int, error: BaseException) -> None:
        """As `AsIs.failure`."""
        self._failures.append((index, self._encode_failure(error)))

    def outcome(self, seconds: float, values: list[Any]) -> Outcome:
        """As `AsIs.outcome`; this stands for the failures, which it becomes when it is loaded."""
        while self._settled:
            kind, (indices, results) = self._settled.popitem()
            self._pickle_together(kind, indices, results)
        if not self._together and not self._alone and not self._failures:
            return seconds, values, None
        self._values = values
        return seconds, values, cast("Failures", self)

    def _pickle_together(self, kind: type[Any], indices: list[int], results: list[Any]) -> None:
        large = LargeBuffers()
        try:
            data = self._encode(results, large.take)
        except TaskCancelled:
            raise
        except BaseException:  # of one of them, and each is told of alone
            for index, value in zip(indices, results, strict=True):
                try:
                    self.result(index, value, is_last=True)
                except SerializationError as error:
                    self.failure(index, error)
        else:
            self._together.append((self._name_of(kind), indices, data, *map(PickleBuffer, large)))

    def _name_of(self, kind: type[Any]) -> bytes:
        try:
            name = self._names.get(kind)
            if name is None:
                name = self._names[kind] = f"{kind.__module__}.{kind.__qualname__}".encode()
        except Exception:  # a metaclass may do anything
            return b""
        return name

    def __reduce__(self) -> tuple[Any, ...]:
        # At the other end, what looks up definitions stands in the place of `defined`, and the values
        # are the outcome's own, which stand before this.
        return load_kept, (defined, self._values, self._together, self._alone, self._failures)


def _copied(buffer: memoryview) -> bytes | bytearray:
    return bytes(buffer) if buffer.readonly else bytearray(buffer)


def load_kept(
    resolve: Callable[[int], Any],
    values: list[Any],
    together: Iterable[tuple[Any, ...]],
    alone: Iterable[tuple[Any, ...]],
    failures: Iterable[tuple[int, bytes]],
) -> Failures | None:
    """Put results that were kept as pickles into their places; one that can't be loaded fails alone.

    Args:
        resolve: what looks up definitions.
        values: a result an item, or None in the place of one that was pickled.
        together: a class's name, the indices of results of that class, the pickle of a list of them, and
            the buffers that were left out of it.
        alone: the name of a result's class, its index, its pickle and buffers.
        failures: the indices and the pickles of what was raised.

    Returns:
        The failures, if there are any.
    """
    from offloop.wire.failure import decode_failure

    errors: dict[int, BaseException] = {}

    def load(data: bytes, buffers: Iterable[Any] = ()) -> Any:
        return loads(data, buffers=(resolve, *buffers))

    def attempt(name: bytes, indices: Sequence[int], data: bytes, buffers: Iterable[Any]) -> Any:
        try:
            return load(data, buffers)
        except KeyboardInterrupt:  # a Ctrl-C
            raise
        except BaseException as error:  # user code: it may exit
            errors.update((index, unloadable_reply("a result", name, error)) for index in indices)
            return None

    for name, indices, data, *buffers in together:
        for index, value in zip(indices, attempt(name, indices, data, buffers) or (), strict=False):
            values[index] = value
    for name, index, data, *buffers in alone:
        values[index] = attempt(name, (index,), data, buffers)
    for index, data in failures:
        errors[index] = decode_failure(loads(data), load)
    return Failures(errors) if errors else None
