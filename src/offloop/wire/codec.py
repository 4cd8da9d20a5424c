"""Tasks to bytes and back: what a parent sends a worker, and what it gets.

Four small classes, two at each end.  A parent has one `Definitions` for a pool,
and for each worker an `Encoder` and a `ReplyDecoder`; the worker has a
`Decoder` and a `ReplyEncoder`.  Functions and classes travel once per worker,
as definitions; from then on a number stands for them.

This module loads in workers: only light imports.
"""

from __future__ import annotations

import sys
from functools import partial
from types import FunctionType

from offloop.wire import cpickle as pickle
from offloop.wire.byvalue import CODE, make_like, type_of
from offloop.wire.pickling import MessageEncoder, defined, is_named

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from offloop.wire.definitions import Definition, Definitions
    from offloop.wire.pickling import Ready, TablePickler

#: Definitions of so many bytes that a worker was sent, and some are to be forgotten.
_MOST_BYTES = 256 << 20
_NAMED = 1000  # How many functions and classes a reply encoder remembers to have names.


class Encoder(MessageEncoder):
    """Pickles what goes to one worker; belongs to the parent.

    Args:
        definitions: the pool's definitions.
        define: called with a number and a payload, once per number, before
            the first message that needs it is returned.
        forget: called with a number that no later message will use.  The
            worker must act on both in the order of the messages: a message
            that is still waiting there may use what is forgotten after it.
    """

    def __init__(
        self,
        definitions: Definitions,
        define: Callable[[int, bytes], None],
        forget: Callable[[int], None],
    ) -> None:
        super().__init__()
        self._definitions = definitions
        self._define = define
        self._forget = forget
        self._ready: dict[int, Definition] = {}  # by id() of the object, which the definition keeps alive
        self._sent: dict[int, int] = {}  # the sizes of definitions, by number
        self._sent_bytes = 0
        self._limit, self._limit_bytes = definitions.capacity + 128, _MOST_BYTES
        #: A task's function that has no number, and how it is pickled.
        self._made: tuple[Any, Any] = (None, None)

    def reference(self, fn: Any) -> int:
        """The number that stands for a function or class in the next message.

        Args:
            fn: any callable.

        Returns:
            Its number in the worker's table, or that of its model.  0 if it
            must travel inside the message: anything but a plain function or
            class, and functions whose captures can change unseen, or that are
            made of a model.

        Raises:
            Exception: whatever pickling the function raises.
        """
        definition = self._ready.get(id(fn))
        if definition is not None:
            captures = definition.captures
            if captures is None or captures.hold():
                return definition.number
        if type(fn) not in CODE and not issubclass(type(fn), type):
            return 0
        if self._spare is not None:
            self._prune()
        if type(fn) is FunctionType and self._definitions.known(fn) is None:
            if self._definitions.is_changing(fn):
                return self._by_value(fn)
            found = self._definitions.models.find(fn)
            if found is not None:
                model, captured = found
                self._deliver(model)
                if not captured:
                    return model.number
                self._made = (fn, (make_like, (model.obj, *captured)))
                return 0
        definition = self._find(fn)
        return self._by_value(fn) if definition is None else definition.number

    def _by_value(self, fn: Any) -> int:
        """Have it pickled into the message, which need not find out again that it has to be."""
        self._made = (fn, None)
        return 0

    def give_up(self) -> None:
        """The task that was referred to last could not be pickled."""
        self._made = (None, None)

    def refer(self, pickler: TablePickler, obj: Any, /) -> Any:
        """By number what is defined; see `pickling.Owner.refer`."""
        definition = self._ready.get(id(obj))
        if definition is None or not definition.is_valid():
            fn, reduced = self._made
            if obj is fn:
                self._made = (None, None)  # what holds a user's data is not kept alive
                return reduced
            pickler.dirty = True
            definition = self._find(obj)
        if definition is None:
            return None
        if pickler.inlined and definition.captures is not None and type(obj) in CODE:
            # A function that is captured by one that goes by value shares its globals.
            return None
        return definition.reduced

    def importable(self, module_name: str, /) -> bool:
        """Whether the worker can import a module by this name."""
        return self._definitions.importable(module_name)

    def _find(self, obj: Any) -> Definition | None:
        definition = self._definitions.find(obj)
        if definition is not None:
            self._deliver(definition)
            self._ready[id(obj)] = definition
        return definition

    def _deliver(self, definition: Definition) -> None:
        for needed in definition.needs:
            self._deliver(needed)
        for part in (definition, *definition.members):
            if part.number not in self._sent:
                self._define(part.number, part.payload)
                self._sent[part.number] = part.size
                self._sent_bytes += part.size

    def _prepare(self) -> Ready:
        # No message is in the making here, save one that pickles something that encodes something.
        self._prune()
        return super()._prepare()

    def _clean(self, ready: Ready) -> None:
        super()._clean(ready)
        if self._is_full():
            self._spare = None  # so that the next message starts with pruning

    def _is_full(self) -> bool:
        return len(self._sent) > self._limit or self._sent_bytes > self._limit_bytes

    def _prune(self) -> None:
        """Have the worker forget what was evicted some time ago."""
        if not self._is_full():
            return
        for number in self._definitions.forgettable(self._sent):
            self._sent_bytes -= self._sent.pop(number)
            self._forget(number)
        self._limit_bytes = max(_MOST_BYTES, 2 * self._sent_bytes)
        self._ready = {id: known for id, known in self._ready.items() if known.is_valid()}


class _Objects(dict[int, "Any"]):
    """The worker's table: loads a definition when it is first looked up."""

    __slots__ = ("_load",)

    def __init__(self, load: Callable[[int], Any]) -> None:
        super().__init__()
        self._load = load

    def __missing__(self, number: int) -> Any:
        return self._load(number)


class Decoder:
    """Unpickles what one worker gets, and keeps its definitions; belongs to the worker."""

    def __init__(self) -> None:
        self._payloads: dict[int, bytes] = {}
        self._objects = _Objects(self._load)
        self._numbers: dict[int, int] = {}  # by id() of the object, which the table keeps alive
        # A C function that calls Python only for what is missing; see `pickling` for its use.
        self._resolver = (self._objects.__getitem__,)

    def define(self, number: int, payload: bytes) -> None:
        """Store a definition; it is loaded when first used, so that failing belongs to who uses it."""
        self._payloads[number] = bytes(payload)

    def forget(self, number: int) -> None:
        """Drop a definition; an unknown number is no error."""
        self._payloads.pop(number, None)
        obj: object = self._objects.pop(number, None)
        if self._numbers.get(id(obj)) == number:
            del self._numbers[id(obj)]

    def resolve(self, number: int) -> Any:
        """The function or class behind a number, loaded now if it was not yet.

        Raises:
            pickle.UnpicklingError: there is no such definition.
            Exception: whatever loading it raises, now and at the next use.
        """
        return self._objects[number]

    def decode(self, data: bytes | memoryview, buffers: Iterable[Any] = ()) -> Any:
        """Unpickle a message.

        Args:
            data: what `Encoder.encode` returned.
            buffers: the buffers that were left out of it, in order.

        Raises:
            Exception: whatever unpickling raises.
        """
        return pickle.loads(data, buffers=(*self._resolver, *buffers) if buffers else self._resolver)

    def number_of(self, obj: object) -> int:
        """The number of a function or class that came as a definition; 0 for any other object."""
        return self._numbers.get(id(obj), 0)

    def _load(self, number: int) -> Any:
        payload = self._payloads.get(number)
        if payload is None:
            raise pickle.UnpicklingError(f"definition {number} is unknown to this worker")
        value: Any = pickle.loads(payload, buffers=self._resolver)
        kind = type_of(value)
        if kind is int:  # a member of that definition
            self.resolve(value)
            if number not in self._objects:
                raise pickle.UnpicklingError(f"definition {number} is not in definition {value}")
            return self._objects[number]
        if kind is tuple:
            value, members = value
            for member, cls in members:
                if member in self._payloads:
                    self._learn(member, cls)
        self._learn(number, value)
        return value

    def _learn(self, number: int, obj: Any) -> None:
        self._payloads.pop(number, None)
        self._objects[number] = obj
        self._numbers[id(obj)] = number


class ReplyEncoder(MessageEncoder):
    """Pickles what a worker sends back; belongs to the worker.

    What came as a definition goes back as its number, so that the parent finds
    its own class again.

    Args:
        decoder: this worker's decoder.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self._decoder = decoder
        self._named: dict[int, Any] = {}  # by id(); the object is kept, so that the id is its own

    def refer(self, pickler: TablePickler, obj: Any, /) -> Any:
        """By number what was defined, by name what has one; see `pickling.Owner.refer`."""
        number = self._decoder.number_of(obj)
        if number:
            return defined, (number,)
        if id(obj) in self._named:
            return NotImplemented
        if not is_named(obj, self.importable):
            return None
        if len(self._named) >= _NAMED:
            self._named.clear()
        self._named[id(obj)] = obj
        return NotImplemented

    def importable(self, module_name: str, /) -> bool:
        """Whether a module has a name by which the parent can import it, as far as one can see here."""
        if module_name in ("__main__", "__mp_main__"):
            return False
        # A module without a spec was made by hand, by code that ran in this worker.
        return getattr(sys.modules.get(module_name), "__spec__", None) is not None


class ReplyDecoder:
    """Unpickles what one worker sent back; belongs to the parent.

    Args:
        definitions: the pool's definitions.
    """

    def __init__(self, definitions: Definitions) -> None:
        self._resolver = (definitions.resolve,)
        #: `decode` of a message without buffers, as C code alone.
        self.load: Callable[[bytes | memoryview], Any] = partial(pickle.loads, buffers=self._resolver)

    def decode(self, data: bytes | memoryview, buffers: Iterable[Any] = ()) -> Any:
        """Unpickle a message of `ReplyEncoder.encode`; as `Decoder.decode`."""
        return pickle.loads(data, buffers=(*self._resolver, *buffers) if buffers else self._resolver)
