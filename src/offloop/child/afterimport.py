"""Acting right after a module was imported, without importing it.

A worker whose tasks never log shall not pay for `logging`, but one whose tasks
do has to know before the first record is made.  So a finder stands in front of
`sys.meta_path`.  It finds nothing by itself: asked for its one module, it has the
finders behind it find that, and wraps the loader.  The module gets its own
loader back before its code runs, so that nothing can be seen of this afterwards.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


class AfterImport:
    """Has ``act`` called once, when a module has been imported.

    Args:
        name: the module's name.
        act: called without arguments; what it raises is shown on stderr, and
            does not fail the import.
    """

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self._name = name
        self._act = act
        #: Whether ``act`` is still to be called.
        self.is_waiting = True

    def start(self) -> None:
        """Act now if the module is there already, else once it is."""
        if not self.look():
            sys.meta_path.insert(0, self)

    def look(self) -> bool:
        """Whether the module is there; if so, and this was missed, act now.

        It is missed where other code took this finder out of `sys.meta_path`, or
        put one before it that finds the same module.
        """
        if self._name not in sys.modules:
            return False
        self.imported()
        return True

    def imported(self) -> None:
        """The module is there: act, and leave `sys.meta_path`."""
        if not self.is_waiting:
            return
        self.is_waiting = False
        try:
            self._act()
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
        try:
            sys.meta_path.remove(self)
        except (ValueError, AttributeError):
            pass  # other code has been there, or put something else in its place

    def again(self) -> None:
        """It was cut short: act anew once the module was imported again."""
        sys.modules.pop("offloop.child.records", None)
        self.is_waiting = True

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, with a loader that tells when the module was imported."""
        if name != self._name or not self.is_waiting:
            return None
        for finder in list(sys.meta_path):
            find: Any = getattr(finder, "find_spec", None) if finder is not self else None
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]  # it acts as one
                return spec
        return None


class _Loader:
    """A module's own loader, and a word to `AfterImport` when it has done its work."""

    def __init__(self, loader: Any, after: AfterImport) -> None:
        self._loader = loader
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: Any) -> None:
        """Run the module's code as its own loader does."""
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        # Not before: an import that fails, or is cancelled, is followed by another one.
        try:
            self._after.imported()
        except BaseException:  # cancelled: the import fails, and the next one makes another `logging`
            self._after.again()
            raise
