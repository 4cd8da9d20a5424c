"""Acting after an import, unseen."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offloop.child.afterimport import AfterImport

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "offloop_test_awaited"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that can be imported and is not."""
    path = tmp_path / f"{NAME}.py"
    path.write_text("ready = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    row, finders = sys.meta_path, list(sys.meta_path)
    yield path
    sys.modules.pop(NAME, None)
    row[:] = finders
    importlib.invalidate_caches()


@pytest.fixture
def acted() -> list[Any]:
    """What the module was like each time that was acted."""
    return []


def await_import(acted: list[Any]) -> AfterImport:
    after = AfterImport(NAME, lambda: acted.append(sys.modules[NAME].__dict__.get("ready")))
    after.start()
    return after


def test_it_acts_once_the_module_is_complete(acted: list[Any]) -> None:
    await_import(acted)
    importlib.import_module("colorsys")
    assert acted == []
    importlib.import_module(NAME)
    importlib.import_module(NAME)
    assert acted == [True]


def test_it_acts_at_once_if_the_module_is_there(acted: list[Any]) -> None:
    importlib.import_module(NAME)
    after = await_import(acted)
    assert acted == [True]
    assert after not in sys.meta_path


def test_afterwards_nothing_can_be_seen_of_it(acted: list[Any], module: Path) -> None:
    before = list(sys.meta_path)
    await_import(acted)
    loaded = importlib.import_module(NAME)
    assert sys.meta_path == before
    assert loaded.__spec__ is not None
    assert type(loaded.__loader__) is importlib.machinery.SourceFileLoader
    assert loaded.__spec__.loader is loaded.__loader__
    assert loaded.__spec__.origin == str(module)
    assert loaded.__spec__.cached == importlib.util.cache_from_source(str(module))


def test_looking_for_the_module_is_no_import(acted: list[Any], module: Path) -> None:
    await_import(acted)
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader is not None
    assert spec.origin == str(module)
    assert spec.loader.get_source(NAME) == module.read_text()  # type: ignore[attr-defined]  # of a source loader
    assert acted == []
    importlib.import_module(NAME)
    assert acted == [True]


def test_a_module_made_by_hand_is_an_import_too(acted: list[Any]) -> None:
    await_import(acted)
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    assert loaded.ready
    assert acted == [True]


def test_reloading_works(acted: list[Any]) -> None:
    await_import(acted)
    loaded = importlib.import_module(NAME)
    del loaded.ready
    assert importlib.reload(loaded).ready
    assert acted == [True]


def test_a_module_that_is_not_there_is_not_found(acted: list[Any], module: Path) -> None:
    after = await_import(acted)
    module.unlink()
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME)
    assert (acted, after.is_waiting) == ([], True)


def test_an_import_that_fails_is_followed_by_another(acted: list[Any], module: Path) -> None:
    await_import(acted)
    module.write_text("raise ValueError('not yet')")
    with pytest.raises(ValueError, match="not yet"):
        importlib.import_module(NAME)
    assert acted == []
    module.write_text("ready = 'at last'")
    importlib.invalidate_caches()
    importlib.import_module(NAME)
    assert acted == ["at last"]


def test_an_action_that_fails_does_not_fail_the_import(capsys: pytest.CaptureFixture[str]) -> None:
    AfterImport(NAME, lambda: 1 // 0).start()
    assert importlib.import_module(NAME).ready
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_finders_that_others_put_before_it_do_no_harm(acted: list[Any]) -> None:
    class Nosy:
        """Asks all other finders, as some import hooks do."""

        def __init__(self) -> None:
            self.asking = False

        def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
            if self.asking:
                return None
            self.asking = True
            try:
                return importlib.util.find_spec(name)
            finally:
                self.asking = False

    await_import(acted)
    sys.meta_path.insert(0, Nosy())  # type: ignore[arg-type]  # a finder in all that counts
    importlib.import_module(NAME)
    assert acted == [True]


@pytest.mark.parametrize("how", ["removed", "replaced", "emptied"])
def test_one_that_was_taken_out_acts_when_it_looks(
    how: str, acted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    after = await_import(acted)
    if how == "removed":
        sys.meta_path.remove(after)
    elif how == "replaced":
        monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if one is not after])
    else:
        importlib.import_module("importlib.machinery")
        sys.meta_path[:] = [importlib.machinery.PathFinder]
    assert not after.look()
    importlib.import_module(NAME)
    assert acted == []
    assert after.look()
    after.look()
    assert acted == [True]


def test_a_row_of_finders_that_is_no_list_does_no_harm(
    acted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await_import(acted)
    monkeypatch.setattr(sys, "meta_path", tuple(sys.meta_path))
    importlib.import_module(NAME)
    assert acted == [True]
