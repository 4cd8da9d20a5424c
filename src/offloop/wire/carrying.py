"""What a task's context variables hold, on the way to its worker.

The parent writes down each variable that the worker may know (see
`wire.variables`) with its value, each pickled by itself: one that can't be
pickled or loaded is left out, and harms none of the others.  What was written
down holds for all tasks behind it, until something else is.

This module loads in workers: only light imports.
"""

from __future__ import annotations

import warnings
from _weakref import ref
from contextvars import Context
from operator import is_

from offloop.task import provider
from offloop.wire import cpickle as pickle
from offloop.wire.byvalue import is_registered
from offloop.wire.pickling import LITERALS, PROTOCOL
from offloop.wire.variables import arrivals, key_of, known_by, tokens

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from offloop.wire.variables import Key, Variable


#: They mean nothing in another process: there, a context that records warnings would keep them.
_STAYING = {provider, getattr(warnings, "_warnings_context", provider)}


class _Stale:
    """In the place of a context: what the worker has may not be what the variables hold now."""


_STALE = _Stale()


class ContextEncoder:
    """Writes down the contexts of one worker's tasks; belongs to the parent.

    Args:
        dumps: pickles a user's object; it may raise anything.
        importable: whether the worker can import a module by this name.

    Attributes:
        last: the context in which the worker runs tasks now: for this one, nothing is to be done.
    """

    def __init__(self, dumps: Callable[[object], bytes], importable: Callable[[str], bool]) -> None:
        self.last: Context | _Stale | None = None
        self._variables: tuple[Variable, ...] = ()  # of the last context, with their values
        self._values: tuple[Any, ...] = ()
        self._tokens = 0
        self._payload = b""
        self._dumps = dumps
        self._importable = importable
        self._refused: dict[Variable, ref[object]] = {}

    def is_same(self, context: Context | None) -> bool:
        """Whether every variable is set to the same object as in the last context; 0.3 µs.

        Contexts themselves compare equal where values do, and call ``__eq__`` of anything.
        """
        return (
            context is not None
            and len(context) == len(self._variables)
            and all(map(is_, context.values(), self._values))
            and all(map(is_, context, self._variables))
            and len(tokens) == self._tokens
        )

    def change_to(self, context: Context | None) -> bytes | None:
        """Go over to another context.

        Args:
            context: the next task's, which was pickled already: a variable that
                the task brought along is known to the worker from then on.

        Returns:
            What the worker is to be told before that task; None if it has the same values already.

        Raises:
            KeyboardInterrupt: it came while pickling, which is a Ctrl-C.
        """
        payload = self._encode(context) if context is not None else b""
        self.last, self._tokens = context, len(tokens)
        self._variables, self._values = (tuple(context), tuple(context.values())) if context else ((), ())
        if payload == self._payload:
            return None
        self._payload = payload
        return payload

    def doubt(self) -> None:
        """Look anew at the values before the next task: they may change meanwhile.

        It also lets go of the context, which is not to be kept for longer than its tasks are.
        """
        self.last = _STALE if self._payload else None
        self._variables = self._values = ()

    def _encode(self, context: Context) -> bytes:
        entries: list[tuple[Key, bytes]] = []
        for variable, value in context.items():
            key = key_of(variable, self._is_importable) if variable not in _STAYING else None
            data = self._encode_value(variable, value) if key is not None else None
            if key is not None and data is not None:
                entries.append((key, data))
        return pickle.dumps(entries, PROTOCOL) if entries else b""

    def _is_importable(self, module_name: str) -> bool:
        return self._importable(module_name) and not is_registered(module_name)

    def _encode_value(self, variable: Variable, value: object) -> bytes | None:
        refused = self._refused.get(variable)
        if refused is not None and refused() is value:  # finding that out again may take long
            return None
        try:
            return self._dumps(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # user code: it may exit, or worse
            try:
                self._refused[variable] = ref(value)
            except TypeError:
                pass  # no object that can be remembered without keeping it
            return None


class CarriedContext:
    """The context that came with a worker's tasks; belongs to the worker.

    Args:
        payload: what `ContextEncoder.change_to` returned.
        loads: loads a user's object; it may raise anything.
    """

    def __init__(self, payload: bytes | memoryview, loads: Callable[[bytes], Any]) -> None:
        self._entries: list[tuple[Key, bytes]] = pickle.loads(payload)
        self._loads = loads
        self._base: Context | None = None

    def context(self, own: Context) -> Context:
        """A context for the next task, once that was loaded.

        A variable is set if it is here by now: its module was imported, or the
        code that uses it has come.  Values that can change are loaded for each
        task, so that none sees what another did to its own.

        Args:
            own: the worker's context, which has what is set for all its tasks.
        """
        if self._base is None:
            self._base = own.copy()
        if not self._entries:
            return self._base.copy()
        entries, self._entries = self._entries, []
        changeable: list[tuple[Variable, Any]] = []
        for key, data in entries:
            variable = known_by(key)
            if variable is None:
                self._entries.append((key, data))
                continue
            try:
                value = self._loads(data)
            except BaseException:  # user code: it may exit, or worse
                pass
            else:
                if type(value) in LITERALS:
                    self._base.run(arrivals.get(variable, variable.set), value)
                else:
                    self._entries.append((key, data))
                    changeable.append((variable, value))
        context = self._base.copy()
        for variable, value in changeable:
            context.run(arrivals.get(variable, variable.set), value)
        return context
