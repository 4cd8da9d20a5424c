"""What a worker says it imported: what is safe to have loaded before a fork, and nothing else."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from offloop.child import modules
from offloop.child.modules import NewModules, is_allowed


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fresh interpreter: what an earlier test loaded was not noted."""
    monkeypatch.setattr(modules, "_loaded", {})


def test_modules_of_the_standard_library_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    new = NewModules()
    importlib.import_module("colorsys")
    assert len(sys.modules) != new.count
    assert new.names() == ["colorsys"]
    assert len(sys.modules) == new.count
    assert new.names() == []


def test_modules_that_are_gone_hide_none_that_came() -> None:
    new = NewModules()
    for name in ("made_up_one", "made_up_two"):
        sys.modules[name] = ModuleType(name)
    assert new.names() == []
    del sys.modules["made_up_one"], sys.modules["made_up_two"]
    assert new.names() == []
    sys.modules["xml.made_up"] = ModuleType("xml.made_up")
    assert new.names() == ["xml.made_up"]
    del sys.modules["xml.made_up"]


def test_a_users_module_that_hides_one_of_the_standard_library_is_not_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "colorsys.py").write_text("")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    new = NewModules()
    importlib.import_module("colorsys")
    assert new.names() == []


@pytest.mark.parametrize("name", ["typing", "collections.abc", "xml.dom", "cloudpickle"])
def test_allowed(name: str) -> None:
    assert is_allowed(name)


@pytest.mark.parametrize(
    "name", ["numpy", "offloop", "__main__", "multiprocessing.pool", "tkinter", "_ssl", ""]
)
def test_not_allowed(name: str) -> None:
    assert not is_allowed(name)
