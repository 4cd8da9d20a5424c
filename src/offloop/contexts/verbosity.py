"""What this process would log and warn of: workers are told, so that they send nothing else."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from offloop.child.filters import describe

#: A key that is no level, in a table that `logging` empties whenever a level changes.
_MARK = -0x0FF1


class Verbosity:
    """The levels of loggers and the filters of warnings, with a number that changes when they do.

    Asking for the number before each batch of tasks must cost next to nothing.
    So it relies on two things.  `logging` keeps a table of answers to
    ``isEnabledFor`` with each logger, and empties it at each ``setLevel`` of
    any logger and each `logging.disable`: a mark in the root logger's table is
    gone when something has changed.  And `warnings` puts new filters at one end
    of its list, or another list in its place.

    What it does not see: a logger's ``level`` assigned without ``setLevel``, and
    a filter changed in the middle of the list.
    """

    def __init__(self) -> None:
        # A table of its own, where `logging` has none, never changes: then the
        # levels at a worker's start hold.
        self._table: dict[int, bool] = getattr(logging.root, "_cache", {})
        self._filters: Any = None
        self._first: Any = None
        self._count = 0
        self._version = 0

    def version(self) -> int:
        """The number; 0.1 µs if nothing has changed."""
        filters = warnings.filters
        if (
            _MARK in self._table
            and filters is self._filters
            and len(filters) == self._count
            and (filters[0] if filters else None) is self._first
        ):
            return self._version
        # The mark comes first, so that a change that another thread makes from now on is noticed.
        self._table[_MARK] = True
        self._filters, self._count = filters, len(filters)
        self._first = filters[0] if filters else None
        self._version += 1
        return self._version

    def settings(self) -> dict[str, Any]:
        """The levels and filters, for a worker, and the number that goes with them."""
        version = self.version()
        named = logging.root.manager.loggerDict.copy().values()
        loggers = [logging.root, *(one for one in named if isinstance(one, logging.Logger) and one.level)]
        return {
            "version": version,
            # `int` takes away the class, where it is a member of an enumeration.
            "levels": {str(one.name): int(one.level) for one in loggers if _is_int(one.level)},
            "disabled": int(logging.root.manager.disable),
            "filters": [entry for one in list(warnings.filters) if (entry := describe(one)) is not None],
        }


def _is_int(level: object) -> bool:
    """Whether it is a level that ``setLevel`` takes; what is assigned to ``level`` may be anything."""
    return isinstance(level, int)


#: This process's.
verbosity = Verbosity()
