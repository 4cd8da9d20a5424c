"""The pickler that every message goes through, and the trick that makes references cheap.

A message may refer to functions and classes that the receiver already knows by
a number.  Such a reference is pickled as a call, ``resolve(number)``; what
makes it cheap is how both ends get at ``resolve`` without naming it:

* The pickler's memo is primed with `defined` as entry 0, so that pickling it
  costs two bytes and no import, no attribute look-up and no Python call.
* The message begins with `PREAMBLE`, three opcodes that put the first item of
  ``buffers`` into the unpickler's memo as entry 0.  A decoder passes its own
  ``resolve`` as that first item.  Unpickling therefore uses the C function
  ``pickle.loads`` itself, and needs no thread-local "current decoder": workers
  that share a process cannot be confused.

Measured on CPython 3.11, 2 cores, in ns, for the whole of `MessageEncoder.encode`:

====================================  ============  ======  ============  ======
message                               pickle.dumps  encode  pickle.loads  decode
====================================  ============  ======  ============  ======
``(1, 2)``                                     190     330           135     205
``((1, 2), {})``                               220     490           170     255
nested dict and lists, 18 objects              430     810           475     625
instance of a dataclass in __main__          1,610   2,670         1,250     640
NumPy array of 10                            4,000   4,170         2,500   1,750
====================================  ============  ======  ============  ======

Of what the third line adds, the pickler's look-up of ``reducer_override`` takes
about 30 ns, the priming 45 and the preamble 45; the rest is this method.  A
fresh pickler for each message would add 750, a `BytesIO` in the list's place 90.
``persistent_id`` would cost a Python call for every object, also for an int.
Of the instance's 2,670, checking that its class is unchanged takes 700;
``cloudpickle.dumps`` takes 92,000.  `LITERALS` makes the first two: what refers to
nothing, if that is seen quickly, needs neither priming nor preamble.

This module loads in workers: only light imports.
"""

from __future__ import annotations

import sys
from copyreg import dispatch_table
from io import BytesIO
from operator import getitem
from types import FunctionType

from offloop.wire import cpickle as pickle
from offloop.wire.byvalue import CODE, SPECIAL, is_registered, learn_types, reduce_code, type_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    BufferCallback = Callable[[pickle.PickleBuffer], Any]
    Ready = tuple["TablePickler", Callable[[Any], None], list[bytes]]
else:
    Protocol = object

PROTOCOL = 5

#: PROTO 5, NEXT_BUFFER, MEMOIZE, POP: memo entry 0 is the first of ``buffers``.
PREAMBLE = b"\x80\x05\x97\x940"

#: Types whose pickles contain no reference to anything.
LITERALS = frozenset({type(None), bool, int, float, complex, str, bytes})

#: Those of them that are never worth a buffer of their own, whose pickles nothing has to be asked for.
ATOMS = LITERALS - {bytes}

_MANY = 8  # Above this many items, looking at each one's type costs more than priming a pickler.


def defined(number: int) -> Any:
    """Stands for the decoder's ``resolve`` while pickling; it is never called."""
    raise pickle.UnpicklingError(f"definition {number} was loaded without a decoder")


_seeded = pickle.Pickler(BytesIO(), PROTOCOL)
_seeded.memo = {id(defined): (0, defined)}
# Assigning this proxy copies a one-entry table in C, which also forgets the last message's objects.
_SEED: Any = _seeded.memo


_modules = 0  # how many were loaded when types were looked for


def _look_for_types() -> None:
    global _modules
    count = len(sys.modules)
    if learn_types():
        _modules = count


class Owner(Protocol):
    """What a `TablePickler` asks of the encoder that it works for."""

    def refer(self, pickler: TablePickler, obj: Any, /) -> Any:
        """How a function or class is pickled: a reduce value, NotImplemented by name, None by value."""

    def importable(self, module_name: str, /) -> bool:
        """Whether the other end can import a module by this name."""
        raise NotImplementedError


class _Sink:
    """The least that a pickler takes for a file: its ``write`` collects chunks."""

    __slots__ = ("chunks", "write")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.write: Any = self.chunks.append


class TablePickler(pickle.Pickler):
    """A C pickler that asks its owner about functions and classes, and is used again and again.

    Attributes:
        chunks: what the message in hand consists of so far.
        callback: the ``buffer_callback`` of the message in hand, or None.
        globals_ref: what cloudpickle shares between the functions of one
            message: new namespaces by the id of the old.
        classes: the ids of those, and of what `typing` makes, that went by value into the message in hand.
        inlined: whether a function did.
        dirty: whether `MessageEncoder` has to clean up after it.
    """

    def __init__(self, owner: Owner) -> None:
        sink = _Sink()
        super().__init__(sink, PROTOCOL, buffer_callback=self._on_buffer)
        self.memo = _SEED
        self.chunks = sink.chunks
        self.callback: BufferCallback | None = None
        self.globals_ref: dict[int, dict[str, Any]] = {}
        self.classes: set[int] = set()
        self.inlined = False
        self.dirty = False
        self._owner = owner

    def reducer_override(self, obj: Any, /) -> Any:
        """Called by the C pickler for everything but the commonest built-in types."""
        kind = type_of(obj)
        if kind is FunctionType or issubclass(kind, type) or kind in CODE:
            reduced = self._owner.refer(self, obj)
            return reduced if reduced is not None else reduce_code(self, obj)
        if kind in SPECIAL:
            return SPECIAL[kind](self, obj)
        if type_of(kind) is not type and "_member_map_" in kind.__dict__:
            return _reduce_member(obj)
        return NotImplemented

    def importable(self, module_name: str) -> bool:
        """Whether the receiver can import a module by this name."""
        return self._owner.importable(module_name)

    def _on_buffer(self, buffer: pickle.PickleBuffer) -> Any:
        callback = self.callback
        return True if callback is None else callback(buffer)


class MessageEncoder:
    """Pickles messages, one after the other, with one pickler that is kept."""

    def __init__(self) -> None:
        self._spare: Ready | None = None

    def encode(self, obj: Any, buffer_callback: BufferCallback | None = None) -> bytes:
        """Pickle an object.

        The cheapest messages are atoms, tuples of up to eight, and such
        arguments as ``(args, {})`` where ``args`` is one of those.

        Args:
            obj: what to pickle.
            buffer_callback: called with each `pickle.PickleBuffer`; as in
                `pickle`, a false result leaves the buffer out of the message.

        Returns:
            The message.

        Raises:
            Exception: whatever pickling raises, `RecursionError` included.
                The encoder stays usable.
        """
        kind = type_of(obj)
        if kind in LITERALS:
            return pickle.dumps(obj, PROTOCOL)
        if kind is tuple and len(obj) <= _MANY:
            for item in obj:
                kind = type_of(item)
                if kind in LITERALS:
                    continue
                if not (_is_flat(item) if kind is tuple else kind is dict and not item):
                    break
            else:
                return pickle.dumps(obj, PROTOCOL)
        ready = self._spare or self._prepare()
        # Whoever comes in while this one is busy, or after it failed, finds none and gets a new one.
        self._spare = None
        if len(sys.modules) != _modules:
            _look_for_types()
        pickler, dump, chunks = ready
        pickler.callback = buffer_callback
        dump(obj)
        if len(chunks) == 1:
            data = PREAMBLE + chunks.pop()
        else:
            data = b"".join((PREAMBLE, *chunks))
            chunks.clear()
        pickler.memo = _SEED  # also lets go of what was pickled
        pickler.callback = None
        self._spare = ready
        if pickler.dirty:
            self._clean(ready)
        return data

    def _prepare(self) -> Ready:
        pickler = TablePickler(self)
        return pickler, pickler.dump, pickler.chunks

    def _clean(self, ready: Ready) -> None:
        """Make a pickler ready for the next message, after one that was not the simplest."""
        pickler = ready[0]
        pickler.globals_ref = {}
        pickler.classes.clear()
        pickler.inlined = pickler.dirty = False

    def refer(self, pickler: TablePickler, obj: Any, /) -> Any:
        """See `Owner.refer`."""
        raise NotImplementedError

    def importable(self, module_name: str, /) -> bool:
        """See `Owner.importable`."""
        raise NotImplementedError


def _reduce_member(obj: Any) -> Any:
    """A member of an enumeration by its name, if its value may not be equal to itself over there."""
    kind: Any = type_of(obj)
    base: Any = getattr(sys.modules.get("enum"), "Enum", ())
    if not issubclass(kind, base):
        return NotImplemented
    if type_of(value := obj._value_) in LITERALS and value == value:  # noqa: PLR0124  # NaN is not
        return NotImplemented
    is_made_otherwise = kind.__reduce_ex__ is not base.__reduce_ex__ or kind in dispatch_table
    if is_made_otherwise or kind._member_map_.get(obj._name_) is not obj:
        return NotImplemented
    return getitem, (kind, obj._name_)  # as an attribute it is what a metaclass makes of it


def _is_flat(items: tuple[Any, ...]) -> bool:
    if len(items) > _MANY:
        return False
    for item in items:  # noqa: SIM110 - a generator for `all` costs more than the items
        if type(item) not in LITERALS:
            return False
    return True


def is_named(obj: Any, importable: Callable[[str], bool]) -> bool:
    """Whether a function or class can be pickled by name: its module's attribute, and importable.

    Args:
        obj: the function, built-in function or class.
        importable: whether the other end can import a module of this name.
    """
    try:
        module_name, path = obj.__module__, obj.__qualname__
        found: Any = sys.modules.get(module_name)
        if found is None:
            return False
        for name in path.split("."):
            found = getattr(found, name)
    except KeyboardInterrupt:
        raise
    except BaseException:  # attributes can be anything here, metaclasses and modules have a __getattr__
        return False
    return found is obj and not is_registered(module_name) and importable(module_name)
