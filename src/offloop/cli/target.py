"""Find the function that ``MODULE:FUNCTION`` names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from offloop.cli.arguments import UsageError
from offloop.cli.failures import one_line


def find_function(target: str) -> Callable[..., Any]:
    """Import the module and look up the function in it.

    The current directory goes first on ``sys.path``, as with ``python -m``;
    for the path of a ``.py`` file its folder does.  Workers get the same path.

    Args:
        target: ``"package.module:function"``, ``"module:Class.method"`` or
            ``"./path/to/file.py:function"``.

    Raises:
        UsageError: the text has another form, the import fails, or there is
            no such function.
    """
    module_text, colon, name = target.rpartition(":")
    if not (colon and module_text and name):
        raise UsageError(f"{target!r} is not of the form MODULE:FUNCTION")
    module = _import_file(Path(module_text)) if module_text.endswith(".py") else _import_name(module_text)
    return _look_up(module, module_text, name)


def carry_file(target: str) -> None:
    """Have the code of a ``.py`` file travel with the tasks, for workers on machines that do not have it.

    What is named as a module, and what the file imports, has to be importable there.

    Args:
        target: what `find_function` has found.
    """
    path = target.rpartition(":")[0]
    if path.endswith(".py"):
        from offloop.wire.byvalue import cloudpickle

        cloudpickle().register_pickle_by_value(sys.modules[_name_of(Path(path))])


def _put_first(folder: str) -> None:
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)


def _import_name(name: str) -> ModuleType:
    if os.sep in name or name.startswith("."):
        raise UsageError(f"{name!r} is neither the name of a module nor the path of a .py file")
    # `python -P` and PYTHONSAFEPATH ask for exactly this not to happen.
    if not sys.flags.safe_path:
        _put_first(_current_folder())
    return _import(name, shown=name)


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError as error:  # it was deleted
        raise UsageError(f"the current folder cannot be found: {error.strerror}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    path = path.resolve()
    _put_first(str(path.parent))
    if "." in path.stem:  # no module can be imported by such a name: its functions travel by value
        return _guarded(lambda: _load(path), shown=str(path))
    module = _import(path.stem, shown=str(path))
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path:
        raise UsageError(f"cannot import {path}: the name {path.stem!r} means {found or 'a built-in module'}")
    return module


def _name_of(path: Path) -> str:
    """The name of the module that a file becomes; of one with a dot no other has it."""
    return path.stem.replace(".", "-")


def _load(path: Path) -> ModuleType:
    name = _name_of(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "it ends with .py"
    assert spec.loader is not None, "it is a file"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _import(name: str, shown: str) -> ModuleType:
    return _guarded(lambda: importlib.import_module(name), shown)


def _guarded(load: Callable[[], ModuleType], shown: str) -> ModuleType:
    try:
        return load()
    # A module may do anything when it is imported, sys.exit() included.
    except (Exception, SystemExit) as error:
        raise UsageError(f"cannot import {shown}: {one_line(error)}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Where in the user's code an import failed, such as `` (work.py, line 3)``."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _look_up(module: ModuleType, shown: str, name: str) -> Callable[..., Any]:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UsageError(f"{shown} has no function {name!r}") from None
    if not callable(found):
        raise UsageError(f"{shown}:{name} is not a function but of type {type(found).__name__}")
    function: Callable[..., Any] = found
    return function
