"""How long a kind of task runs: a moving average of measured durations."""

from __future__ import annotations

from math import inf
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from offloop.scheduling.chunking import Past

#: Kinds of task whose durations are remembered.
MAX_KINDS = 4096
#: Partials of partials, of which the innermost's function is the kind.
MAX_DEPTH = 16
#: One measurement raises an estimate at most that many times, and by that many seconds.
GROWTH, STEP = 8.0, 20e-6


class Kind:
    """Tasks that run the same function, and so probably take about as long.

    Attributes:
        seconds: how long the next one will run; None until one of them was measured.
        past: what its maps have learned; None before the first.
    """

    __slots__ = ("past", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.past: Past | None = None

    def record(self, seconds: float) -> None:
        """Take a measured duration into account.

        A longer one counts for half, a shorter one for a tenth: to believe that
        a task is slow costs a little prefetching, to believe that it is fast
        lets tasks queue behind it.  But one long duration among short ones is
        as a rule the operating system's doing, which gave the processor to
        another process: so the estimate grows at most `GROWTH` times at a time.
        """
        known = self.seconds
        if known is None:
            if 0.0 <= seconds < inf:
                self.seconds = seconds
        elif seconds > known:
            self.seconds = min((known + seconds) * 0.5, known * GROWTH + STEP)
        elif seconds >= 0.0:  # a worker in which a task wrote to the socket may say anything
            self.seconds = known + (seconds - known) * 0.1


class Kinds:
    """The kind of each task: that of the code it runs, so that lambdas made in a loop are one kind."""

    def __init__(self) -> None:
        self._kinds: dict[int, tuple[object, Kind]] = {}
        self._last: Any = None  # as a rule the next task runs the same function
        self._last_kind = Kind()

    def of(self, target: Any) -> Kind:
        """The kind of the tasks that call ``target``, or that are of the class ``target``."""
        if target is self._last:
            return self._last_kind
        code = getattr(target, "__code__", None) or self._of_callable(target)
        found = self._kinds.get(id(code))
        if found is None:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            # The code is kept beside its kind, so that its id is not used again.
            found = self._kinds[id(code)] = (code, Kind())
        if target is code or (type(target) is FunctionType and not target.__closure__):
            self._last, self._last_kind = target, found[1]  # what holds a user's data is not kept alive
        return found[1]

    @staticmethod
    def _of_callable(target: Any) -> object:
        """What stands for a callable without code of its own; never an object that holds a user's data."""
        for _ in range(MAX_DEPTH):  # a mock has any attribute, without end
            if not hasattr(target, "func"):  # a partial, which may be made anew for every task
                break
            target = target.func
        if isinstance(target, BuiltinFunctionType):
            owner = type(target.__self__)
            if owner is ModuleType or owner is NoneType:
                return target
            # A method is another object each time that it is looked up; so is one of a class in its class.
            return target.__self__ if issubclass(owner, type) else _found_in(owner, target.__name__)
        if isinstance(target, type):
            return target
        return getattr(target, "__code__", None) or cast("type[object]", type(target))


def _found_in(owner: type, name: str) -> object:
    """What a class has by this name; or the class, where asking runs code of its metaclass that raises."""
    try:
        return getattr(owner, name, owner)
    except Exception:
        return owner
