"""The package itself: its names, and what importing it costs."""

from __future__ import annotations

import ast
import importlib.metadata
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

import offloop

INIT = Path(offloop.__file__)


def names_for_type_checkers() -> dict[str, str]:
    """Name and home module of each import under ``if TYPE_CHECKING:``."""
    blocks = [
        node
        for node in ast.parse(INIT.read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    found: dict[str, str] = {}
    for statement in (statement for block in blocks for statement in block.body):
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, f"{alias.name} must be re-exported as itself"
            found[alias.name] = str(statement.module)
    return found


def test_type_checkers_see_the_names_that_are_there() -> None:
    homes = {name: f"offloop.{module}" for name, module in offloop._MODULE.items()}
    assert names_for_type_checkers() == homes
    assert set(offloop.__all__) == {"__version__", *homes}


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter loads for this code."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{script}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    return set(done.stdout.split())


def test_importing_offloop_loads_no_submodule_and_nothing_heavy() -> None:
    modules = loaded_by("import offloop")
    assert {name for name in modules if name.startswith("offloop")} == {"offloop"}
    assert not modules & {
        "asyncio",
        "cloudpickle",
        "concurrent",
        "dataclasses",
        "inspect",
        "logging",
        "psutil",
    }


def test_a_name_loads_its_own_module_only() -> None:
    modules = loaded_by("import offloop; offloop.WorkerCrashed")
    assert {name for name in modules if name.startswith("offloop")} == {"offloop", "offloop.errors"}


def test_a_pool_loads_neither_what_runs_in_workers_nor_what_is_slow_to_load() -> None:
    modules = loaded_by("import offloop; offloop.WorkerPool")
    assert "offloop.contexts.process" in modules
    assert not modules & {"offloop.child.process", "offloop.child.runner", "offloop.child.template"}
    assert not modules & {"cloudpickle", "ctypes", "multiprocessing", "pathlib", "psutil"}


def test_an_unknown_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'offloop' has no attribute 'Pool'"):
        offloop.Pool


def test_why_a_module_of_ours_can_not_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> NoReturn:
        raise AttributeError("module 'inspect' has no attribute 'isfunction'")

    monkeypatch.setattr("importlib.import_module", fail)
    monkeypatch.delitem(vars(offloop), "Task", raising=False)
    with pytest.raises(ImportError, match=r"^offloop\.task can't be imported: module 'inspect' has no"):
        from offloop import Task as _  # noqa: F401


def test_every_public_name_is_there_and_listed() -> None:
    for name in offloop.__all__:
        assert getattr(offloop, name) is not None
    assert set(offloop.__all__) <= set(dir(offloop))


def test_the_function_pool_is_not_shadowed_by_a_module() -> None:
    assert callable(offloop.pool)


def test_the_version_is_the_distributions_version() -> None:
    try:
        version = importlib.metadata.version("offloop")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("offloop runs from its source, not installed")
    assert version == offloop.__version__


def test_no_submodule_hides_a_public_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(offloop.__path__)}
    # A worker's `environment`, `errors` and the like are no public names.
    assert modules & set(offloop.__all__) == set()


def test_without_joblib_its_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "joblib", "joblib.parallel":
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "offloop.adapters.joblib", raising=False)
    monkeypatch.delattr("offloop.adapters.joblib", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'offloop\[joblib\]'"):
        offloop.register_joblib_backend()
