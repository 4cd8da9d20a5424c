"""Whether a fresh interpreter could import a module: what may travel by name, and what may not.

A worker is started with the parent's ``sys.path``, but has none of what the
parent's program did since: modules made by hand, loaded from elsewhere under
some name, or found by import hooks that were installed at run time.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    BuiltinImporter,
    FrozenImporter,
    ModuleSpec,
    PathFinder,
)
from typing import TYPE_CHECKING, Any

from offloop.wire.variables import namespace_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The finders of every interpreter.
_STANDARD: tuple[Any, ...] = (BuiltinImporter, FrozenImporter, PathFinder)

#: Finders, by the module that defines them, that find nothing that the standard ones would not,
#: or come back by themselves when what they are for is imported.
_HARMLESS = frozenset(
    "_pytest.assertion.rewrite _distutils_hack _virtualenv importlib_metadata "
    "offloop.child.afterimport pkg_resources.extern setuptools.extern setuptools._distutils six".split()
)

_NEVER = frozenset({"__main__", "__mp_main__"})

#: Every worker has these, however they are found: what travels by value refers to their makers.
_ALWAYS = frozenset({"builtins", "cloudpickle.cloudpickle", "offloop.wire.byvalue", "offloop.wire.typevars"})

#: What a folder on the path is when it holds nothing; other errors (no descriptor left) may pass.
_NO_FOLDER = (FileNotFoundError, NotADirectoryError, PermissionError)


class PathWatch:
    """Tells when ``sys.path`` changes, or what its relative entries mean: the working directory."""

    def __init__(self) -> None:
        self._path: list[object] = []
        self._is_relative = False
        self._folder = ""

    def has_changed(self) -> bool:
        """Whether it has since the last time; the first time it has."""
        if sys.path == self._path and (not self._is_relative or _here() == self._folder):
            return False
        self._path = [*sys.path]
        self._is_relative = any(isinstance(entry, str) and not os.path.isabs(entry) for entry in self._path)
        self._folder = _here()
        return True


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was deleted
        return ""


class _Cache:
    """Answers, and what they rest on: they are dropped when that changes."""

    def __init__(self) -> None:
        self.path = PathWatch()
        self.finders: list[Any] = []
        self.answers: dict[str, tuple[object, bool]] = {}
        self.site_lines: list[str] | None = None

    def refresh(self) -> None:
        """Drop everything if ``sys.path`` or the finders are not what they were."""
        if self.path.has_changed() or self.finders != sys.meta_path:
            self.finders = list(sys.meta_path)
            self.answers.clear()
            self.site_lines = None


_cache = _Cache()


#: What relative entries of ``sys.path`` stand for, and stood for as modules were loaded from there.
_meant: dict[str, None] = {}


def path_entries() -> list[str]:
    """What a worker's ``sys.path`` is to be: of this one, which may hold anything, what Python imports from.

    Relative entries, such as the empty one of a REPL, are made absolute: a worker may have another
    working directory.  What they meant before stays as well, behind all others, if modules were loaded
    from there: those go by name.
    """
    path: list[object] = [*sys.path]
    entries = [_absolute(str.__str__(entry)) for entry in path if isinstance(entry, str)]
    left = [folder for folder in _meant if folder not in entries]
    if left:
        files = [str(namespace_of(module).get("__file__")) for module in [*sys.modules.values()]]
        for folder in left:
            if not any(file.startswith(folder + os.sep) for file in files):
                del _meant[folder]
    return [*entries, *(folder for folder in left if folder in _meant)]


def _absolute(entry: str) -> str:
    if os.path.isabs(entry) or not (folder := _here()):
        return entry
    whole = os.path.join(folder, entry) if entry else folder
    if not os.path.exists(whole):  # a name for somebody's import hook
        return entry
    _meant[whole] = None
    return whole


def importable(module_name: str) -> bool:
    """Whether a fresh interpreter with this ``sys.path`` would import the same module by this name.

    Nothing is imported to find out.  The answer is kept for as long as the
    module, ``sys.path`` and the finders stay the same.

    Args:
        module_name: such as ``"json"`` or ``"os.path"``.

    Returns:
        Whether it is found, and, if it is loaded here, in the file that it was
        loaded from.  Always False for ``__main__``; False where a finder raises.
        While the system cannot say (no descriptor is left to look with), what
        is loaded from somewhere counts as found; that answer is not kept.
    """
    if module_name in _NEVER:
        return False
    if module_name in _ALWAYS:
        return True
    _cache.refresh()
    module = sys.modules.get(module_name)
    known = _cache.answers.get(module_name)
    if known is None or known[0] is not module:
        try:
            answer = _would_import(module_name, module)
        except OSError:
            return getattr(module, "__spec__", None) is not None
        except Exception:  # a finder, path hook or module attribute can be anyone's code
            answer = False
        known = _cache.answers[module_name] = (module, answer)
    return known[1]


def foreign_finders() -> bool:
    """Whether imports may need finders that ``python -S`` does not have.

    Editable installs are found by such finders, which ``site`` installs.

    Returns:
        True if ``sys.meta_path`` holds a finder that is neither one of the
        interpreter's own nor known to be needless in a worker.
    """
    return any(not _is_harmless(finder) for finder in sys.meta_path)


def _is_harmless(finder: Any) -> bool:
    if _is_standard(finder) or not hasattr(finder, "find_spec"):
        return True
    name = _home(finder)
    return any(part in _HARMLESS for part in _prefixes(name)) or name.endswith(".six")


def _is_standard(finder: Any) -> bool:
    return any(finder is standard for standard in _STANDARD)


def _home(finder: Any) -> str:
    """The name of the module that defines a finder, which may be a class or an instance."""
    kind: type = finder if isinstance(finder, type) else type(finder)
    return kind.__module__


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _would_import(name: str, module: Any) -> bool:
    name = _known_as(name, module)
    spec: ModuleSpec | None = None
    path: Sequence[str] | None = None
    for prefix in _prefixes(name):
        parent, spec = spec, _find(prefix, path)
        if spec is None:
            return module is not None and parent is not None and _is_extension(parent)
        path = spec.submodule_search_locations
        if path is None and prefix != name:
            return module is not None and _is_extension(spec)
    return spec is not None and (module is None or _is_same(spec, module))


def _known_as(name: str, module: Any) -> str:
    """The name that a module is found by: ``os.path`` is `posixpath`, and from Python 3.13 on
    ``collections.abc`` is `_collections_abc`.

    What the standard library gives a second name has it in every interpreter; of others that is not known.
    """
    spec: ModuleSpec | None = getattr(module, "__spec__", None)
    if spec is None or spec.name == name:
        return name
    return spec.name if _is_standard_library(name) and _is_standard_library(spec.name) else name


def _is_standard_library(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _is_extension(spec: ModuleSpec) -> bool:
    """Whether it is an extension module, which may make submodules without files when imported."""
    return spec.origin is not None and spec.origin.endswith(tuple(EXTENSION_SUFFIXES))


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """The spec that a fresh interpreter would find; the finders' exceptions pass through."""
    for finder in sys.meta_path:
        if not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(name, path, None)
        if spec is not None and (_is_standard(finder) or _is_installed_by_site(finder)):
            return spec
    return None


def _is_installed_by_site(finder: Any) -> bool:
    """Whether a line of a ``.pth`` file names a finder's module, so that every interpreter has it."""
    if _cache.site_lines is None:
        _cache.site_lines = [line for folder in sys.path for line in _import_lines(folder)]
    module = _home(finder)
    return any(module in line for line in _cache.site_lines)


def _import_lines(folder: str) -> list[str]:
    try:
        names = [name for name in os.listdir(folder or ".") if name.endswith(".pth")]
    except (*_NO_FOLDER, TypeError):  # sys.path may hold anything
        return []
    lines: list[str] = []
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            lines.extend(line for line in file if line.startswith(("import ", "import\t")))
    return lines


def _is_same(spec: ModuleSpec, module: Any) -> bool:
    """Whether a loaded module came from where a spec points."""
    own: ModuleSpec | None = getattr(module, "__spec__", None)
    if spec.origin in ("built-in", "frozen"):
        return own is not None and own.origin == spec.origin
    if spec.origin is None:
        # A namespace package: any folder in common will do, as each worker has the same sys.path.
        places = set(getattr(module, "__path__", ()))
        shared = not places.isdisjoint(spec.submodule_search_locations or ())
        return own is not None and own.origin is None and shared
    file: str | None = getattr(module, "__file__", None) or (own.origin if own is not None else None)
    return file is not None and _is_same_file(file, spec.origin)


def _is_same_file(one: str, other: str) -> bool:
    one, other = _source(one), _source(other)
    try:
        return os.path.samefile(one, other)
    except OSError:  # such as a member of a zip archive, or one that is gone
        return os.path.abspath(one) == os.path.abspath(other)


def _source(path: str) -> str:
    """The source beside a compiled file, if there is one."""
    if path.endswith(".pyc") and os.path.exists(path[:-1]):
        return path[:-1]
    return path
