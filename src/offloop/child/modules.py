"""What a worker had to import, so that the next ones find it loaded: the template imports it before it forks.

Only what is safe to have loaded before a fork, whatever the user's code is:
modules of the standard library, which start no threads and hold no connections
when they are imported, and cloudpickle.  A user's own modules are named by
``preload``, or are imported by each worker.
"""

from __future__ import annotations

import os
import sys
from itertools import islice

TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

#: Not to be imported before a fork: they take hold of the terminal, the display, or who the process is.
_EXCLUDED = frozenset({
    "antigravity", "curses", "idlelib", "lib2to3", "multiprocessing", "readline", "rlcompleter", "site",
    "test", "this", "tkinter", "turtle", "turtledemo",
})  # fmt: skip
#: What every worker needs for classes that travel by value.
_OURS = "cloudpickle"


_loaded: dict[str, ModuleType] = {}


def take_stock() -> None:
    """Note what is loaded; before a fork, as it refers to every module, and each would be copied after it."""
    global _loaded
    _loaded = dict(sys.modules)


class SearchPath:
    """This worker's ``sys.path``, which follows the parent's."""

    def __init__(self) -> None:
        self._own: list[str] = []  # what stays in front of the parent's

    def stay_apart(self) -> None:
        """The parent is on another machine: this one's modules go first."""
        self._own = list(sys.path)

    def take(self, path: list[str]) -> None:
        """Take on the parent's path; a parent elsewhere only adds to this machine's."""
        sys.path[:] = [*self._own, *(entry for entry in path if entry not in self._own)]


class NewModules:
    """Finds what was imported since it was asked last."""

    def __init__(self) -> None:
        if len(_loaded) != len(sys.modules):
            take_stock()
        self._before = _loaded
        self._since: dict[str, Any] = {}
        #: How many modules there were; where that has not changed, there is nothing to ask for.
        self.count = len(sys.modules)

    def names(self) -> list[str]:
        """The modules imported since, of those that may be loaded before a fork."""
        if "sys" not in sys.modules:  # a task has cleared them all: nothing could be imported any more
            sys.modules.update(self._before)
            sys.modules.update(self._since)
        # The newest are the last; to look at all would copy what refers to them from the template's memory.
        latest = list(islice(reversed(sys.modules), max(len(sys.modules) - self.count, 0)))
        self.count = len(sys.modules)
        names: list[str] = []
        for name in reversed(latest):
            module = sys.modules.get(name)
            if name not in self._before and name not in self._since:
                self._since[name] = module
                if _is_safe(name, module):
                    names.append(name)
        return names


def is_allowed(name: str) -> bool:
    """Whether a module of this name may be loaded before a fork, if it is what its name says."""
    root = name.partition(".")[0]
    return name == _OURS or (
        root in sys.stdlib_module_names and root not in _EXCLUDED and not root.startswith("_")
    )


def _is_safe(name: str, module: ModuleType | None) -> bool:
    """Whether it is the standard library's module of that name, not one of the user's that hides it."""
    if not is_allowed(name):
        return False
    file = getattr(module, "__file__", None)
    if name == _OURS or file is None:
        return True
    home = os.path.dirname(os.__file__) + os.sep
    return str(file).startswith(home) and "-packages" not in str(file)
