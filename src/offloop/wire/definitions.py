"""The functions and classes that one pool's workers have been told about.

A `Definition` is one function or class, pickled once under a number that is
never used again.  By name, if the workers can import it; else by value, with
the `Captures` that say whether the pickle is still right.  When it is not, the
object gets a new definition with a new number.

A definition by value stands for itself except for one thing: a class that
already has a valid definition is referred to.  A class met on the way that has
none becomes a *member*: it travels inside, and gets a number and a definition
of its own, which merely names the carrier.  So references never form a cycle,
however classes refer to each other, and every class has one number.

Three kinds of payload follow, told apart by what they load as: an int (a
member: the carrier's number), a tuple (by value: the object and its members)
and anything else (by name: the object itself).
"""

from __future__ import annotations

import pickle
from collections import deque
from itertools import count, islice
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary, ref

from offloop.wire.byvalue import CODE, TYPE_NAMES, is_made_of_python
from offloop.wire.captures import Captures
from offloop.wire.models import Models
from offloop.wire.pickling import PROTOCOL, MessageEncoder, defined, is_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FunctionType

    from offloop.wire.pickling import TablePickler

#: Evicted definitions that workers are not told to forget yet: messages under way may still use them.
#: Fewer where they are large.
GRACE, LEAST_GRACE = 64, 8

#: How often a function whose captures can change is pickled before they are looked at again …
LOOK_AGAIN = 64
#: … and how many such functions are remembered.
MOST_CHANGING = 1000

#: Payloads up to this many bytes cost nothing to keep.
SMALL = 256
#: Payloads above this many bytes in all are evicted too, oldest first.
MAX_BYTES = 64 << 20


class Retired:
    """In the place of captures: these do not hold, the definition is gone."""

    mutable = True

    def hold(self) -> bool:
        """Never."""
        return False


_RETIRED = Retired()


class Definition:
    """A function or class as one payload.

    Attributes:
        number: its number, unique in its `Definitions`.
        obj: the function or class.
        payload: its pickle; if it is large, empty once it is retired, and no worker will be sent it.
        size: that of its pickle, in bytes.
        captures: what must still hold for it to be valid; None if it always is.
        needs: definitions that its payload refers to.
        members: classes that travel inside it.
        needed_by: definitions that refer to it.
        reduced: what a pickler writes in the object's place.
    """

    __slots__ = ("captures", "members", "needed_by", "needs", "number", "obj", "payload", "reduced", "size")

    def __init__(self, number: int, obj: Any, payload: bytes, captures: Captures | None) -> None:
        self.number = number
        self.obj = obj
        self.payload = payload
        self.size = len(payload)
        self.captures: Captures | Retired | None = captures
        self.needs: tuple[Definition, ...] = ()
        self.members: tuple[Definition, ...] = ()
        self.needed_by: set[Definition] = set()
        self.reduced = (defined, (number,))

    def is_valid(self) -> bool:
        """Whether it is in use and nothing that went into it has changed."""
        return self.captures is None or self.captures.hold()


class Definitions:
    """The definitions of one pool, shared by the encoders of its workers.

    Args:
        importable: whether a worker can import a module by this name.
        capacity: how many definitions are kept; above it the oldest that no
            other one needs is evicted.
    """

    def __init__(self, importable: Callable[[str], bool], capacity: int = 1000) -> None:
        self.importable = importable
        self.capacity = capacity
        self._numbers = count(1)
        self._by_object: dict[int, Definition] = {}  # by id(); the definition keeps the object alive
        self._by_number: dict[int, Definition] = {}  # oldest first
        self._bytes = 0
        # Results that are under way may refer to what has been evicted meanwhile.
        self._retired: deque[Definition] = deque()
        self._retired_bytes = 0
        self._objects: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self.models = Models(self.find, self.is_named)
        self._changing: dict[int, tuple[ref[FunctionType], int]] = {}  # by id() of the function: how often

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def find(self, obj: Any) -> Definition | None:
        """The valid definition of a function or class, made if there is none.

        Args:
            obj: a function, built-in function, ``lru_cache`` function or class.

        Returns:
            Its definition, or None if it has to be pickled each time.

        Raises:
            Exception: whatever pickling it raises.
        """
        return self.known(obj) or self._define(obj)

    def known(self, obj: Any) -> Definition | None:
        """The valid definition of a function or class, if there is one already."""
        definition = self._by_object.get(id(obj))
        if definition is None or definition.is_valid():
            return definition
        self._retire(definition)
        return None

    def is_changing(self, fn: FunctionType) -> bool:
        """Whether a function has to be pickled each time, as far as that was looked at some uses ago.

        It may be pickled in any case, which only takes longer: to find out takes as long as a small task.
        """
        known, uses = self._changing.get(id(fn), (None, 0))
        if known is None or known() is not fn or uses > LOOK_AGAIN:
            return False
        self._changing[id(fn)] = known, uses + 1
        return True

    def resolve(self, number: int) -> Any:
        """The original function or class behind a number.

        Raises:
            pickle.UnpicklingError: there is no such definition, or it was
                evicted and its object is gone.
        """
        definition = self._by_number.get(number)
        if definition is not None:
            return definition.obj
        try:
            return self._objects[number]
        except KeyError:
            raise pickle.UnpicklingError(f"definition {number} no longer exists") from None

    def is_named(self, obj: Any) -> bool:
        """Whether workers can import a function or class by its name."""
        return is_named(obj, self.importable)

    def forgettable(self, numbers: Iterable[int]) -> list[int]:
        """Those of the numbers whose definitions were evicted some time ago."""
        recent = {definition.number for definition in islice(reversed(self._retired), GRACE)}
        return [number for number in numbers if number not in self._by_number and number not in recent]

    def next_number(self) -> int:
        """A number that was never used before."""
        return next(self._numbers)

    def _define(self, obj: Any) -> Definition | None:
        if self.is_named(obj):
            return self._add(Definition(self.next_number(), obj, pickle.dumps(obj, PROTOCOL), None))
        if id(obj) in TYPE_NAMES:
            payload = b"\x80\x05ctypes\n%s\n." % TYPE_NAMES[id(obj)].encode()
            return self._add(Definition(self.next_number(), obj, payload, None))
        if not is_made_of_python(obj):
            return None
        captures = self._captures(obj)
        if not captures.mutable:
            return self._define_by_value(obj, captures)
        if len(self._changing) >= MOST_CHANGING:
            self._changing.clear()
        self._changing[id(obj)] = ref(obj), 1
        return None

    def _define_by_value(self, obj: Any, captures: Captures) -> Definition:
        number = self.next_number()
        encoder = _DefinitionEncoder(self, obj)
        payload = encoder.encode((obj, encoder.members))
        definition = Definition(number, obj, payload, captures)
        alias = pickle.dumps(number, PROTOCOL)
        definition.members = tuple(
            Definition(member, cls, alias, self._captures(cls)) for member, cls in encoder.members
        )
        definition.needs = tuple(encoder.needs)
        for member in definition.members:
            member.needs = (definition,)
        return self._add(definition)

    def _captures(self, obj: Any) -> Captures:
        return Captures(obj, self.is_named, self.importable)

    def _add(self, added: Definition) -> Definition:
        for definition in (added, *added.members):
            replaced = self._by_object.get(id(definition.obj))
            if replaced is not None:  # made while this one was being pickled, by a __reduce__ that encodes
                self._retire(replaced)
            self._by_object[id(definition.obj)] = definition
            self._by_number[definition.number] = definition
            self._bytes += definition.size
            for needed in definition.needs:
                needed.needed_by.add(definition)
        self._evict(added.number)
        return added

    def _evict(self, newest: int) -> None:
        """Retire the oldest until the limits are kept, but nothing that the newest came with."""
        while len(self._by_number) > self.capacity or self._bytes > MAX_BYTES:
            for definition in self._by_number.values():
                if definition.number < newest and not definition.needed_by:
                    break
            else:
                return
            self._retire(definition)

    def _retire(self, definition: Definition) -> None:
        if self._by_number.pop(definition.number, None) is None:
            return
        if self._by_object.get(id(definition.obj)) is definition:
            del self._by_object[id(definition.obj)]
        definition.captures = _RETIRED
        if definition.size > SMALL:
            definition.payload = b""
        self._bytes -= definition.size
        self._keep_for_a_while(definition)
        self._objects[definition.number] = definition.obj
        for needed in definition.needs:
            needed.needed_by.discard(definition)
        for dependent in tuple(definition.needed_by):
            self._retire(dependent)

    def _keep_for_a_while(self, definition: Definition) -> None:
        retired = self._retired
        retired.append(definition)
        self._retired_bytes += definition.size
        while len(retired) > max(self.capacity, GRACE) or (
            self._retired_bytes > MAX_BYTES and len(retired) > LEAST_GRACE
        ):
            self._retired_bytes -= retired.popleft().size


class _DefinitionEncoder(MessageEncoder):
    """Decides what a definition's pickle refers to, and notes what it does."""

    def __init__(self, definitions: Definitions, root: Any) -> None:
        super().__init__()
        self.members: list[tuple[int, type]] = []
        self.needs: list[Definition] = []
        self._definitions = definitions
        self._met: set[int] = {id(root)}

    def importable(self, module_name: str, /) -> bool:
        """Whether workers can import a module by this name."""
        return self._definitions.importable(module_name)

    def refer(self, _: TablePickler, obj: Any, /) -> Any:
        """By name what has one; functions inline, as they share globals; classes by number."""
        if self._definitions.is_named(obj):
            return NotImplemented
        if type(obj) in CODE or not is_made_of_python(obj) or id(obj) in self._met:
            return None
        known = self._definitions.known(obj)
        if known is not None:
            self.needs.append(known)
            return known.reduced
        self._met.add(id(obj))
        # The list is pickled after the root, and by then has all of them.
        self.members.append((self._definitions.next_number(), obj))
        return None
