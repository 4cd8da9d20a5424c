"""The parent's filters of warnings, in a worker.

They keep what the parent would not show from being sent; the parent, which
filters what comes once more, has the last word.  So where a filter can't be taken
on exactly, too much goes through rather than too little.
"""

from __future__ import annotations

import sys
import warnings

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    #: An expression's text and flags; a text to be equal to; or None for anything.
    Pattern = tuple[str, int] | str | None
    #: A filter as it travels: action, message, category as ``module:name``, module, line.
    Described = tuple[str, Pattern, str, Pattern, int]


def describe(filter: Any) -> Described | None:
    """An entry of ``warnings.filters`` as plain data; None if it is none that `warnings` makes."""
    try:
        action, message, category, module, line = filter
        name = f"{category.__module__}:{category.__qualname__}"
        return str(action), _text(message), name, _text(module), int(line)
    except (AttributeError, TypeError, ValueError):
        return None


def _text(pattern: Any) -> Pattern:
    if pattern is None or isinstance(pattern, str):
        return pattern
    return str(pattern.pattern), int(pattern.flags)


def find_category(name: str) -> type[Warning] | None:
    """The category of this name (``module:name``), if its module is loaded; nothing is imported."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, "__dict__", {}).get(part)  # a module's own `__getattr__` might import
    return found if isinstance(found, type) and issubclass(found, Warning) else None


class Expression:
    """A regular expression that is compiled when it is first used: `re` would cost each worker 4 ms."""

    def __init__(self, text: str, flags: int) -> None:
        self.pattern = text
        self.flags = flags
        self._compiled: Any = None

    def match(self, text: str) -> object:
        """What `re.Pattern.match` gives."""
        if self._compiled is None:
            import re

            self._compiled = re.compile(self.pattern, self.flags)
        return self._compiled.match(text)


class Filters:
    """Puts the parent's filters in the place of those that the interpreter began with."""

    def __init__(self) -> None:
        self._list: list[Any] = warnings.filters  # type: ignore[assignment]  # typed as read-only
        self._given: list[Any] = list(self._list)
        # `python -W error` is for all processes of a program: there a warning is
        # raised where it comes up, as in the parent.
        self._raising = [describe(one) for one in self._list if one[0] == "error"]

    def apply(self, described: list[Described]) -> None:
        """Take on these; filters that the worker's own code has added stay in front of them."""
        given = {id(one) for one in self._given}
        own = [one for one in self._list if id(one) not in given]
        self._given = [one for entry in described if (one := self._made_of(entry)) is not None]
        if warnings.filters is self._list:
            warnings.resetwarnings()  # has what was decided by the old filters forgotten
        self._list[:] = own + self._given

    def _made_of(self, entry: Described) -> tuple[Any, ...] | None:
        action, message, name, module, line = entry
        if action == "error" and entry not in self._raising:
            action = "always"  # raised in the parent
        category = find_category(name)
        if category is None:
            if action == "ignore":
                return None
            category = Warning  # its module is yet to be imported: this lets through more, and that too
        return action, _expression(message), category, _expression(module), line


def _expression(pattern: Pattern) -> Expression | str | None:
    return Expression(*pattern) if isinstance(pattern, tuple) else pattern
