"""What counts as importable, and which finders as foreign."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import py_compile
import subprocess
import sys
import types
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from support import arrays

from offloop.contexts import imports
from offloop.contexts.imports import foreign_finders, importable, path_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Writes files below a folder on ``sys.path``; what was imported from there is forgotten again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, source: str = "") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        importlib.invalidate_caches()
        return file

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(name: str, path: Path) -> types.ModuleType:
    """Load a file as a module of that name, as programs do that load their plugins."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    "builtins sys _thread os posixpath os.path collections.abc importlib._bootstrap json json.decoder "
    "numpy _pytest.fixtures".split(),
)
def test_what_is_installed_is_importable(name: str) -> None:
    importlib.import_module(name)
    assert importable(name)


@pytest.mark.parametrize(
    "name", ["__main__", "__mp_main__", "no_such_module", "json.no_such", "no.such.module", ""]
)
def test_what_cannot_be_imported_is_not(name: str) -> None:
    assert not importable(name)


def test_looking_imports_nothing(write: Any) -> None:
    write("pack/__init__.py", "raise AssertionError('imported')")
    write("pack/inner/__init__.py", "raise AssertionError('imported')")
    write("pack/inner/mod.py", "raise AssertionError('imported')")
    assert importable("pack.inner.mod")
    assert not importable("pack.inner.other")
    assert "pack" not in sys.modules


def test_a_module_and_its_package_on_the_path_are_importable(write: Any) -> None:
    write("pack/__init__.py")
    write("pack/mod.py")
    importlib.import_module("pack.mod")
    assert importable("pack")
    assert importable("pack.mod")


def test_a_module_loaded_from_elsewhere_is_not(write: Any, tmp_path: Path) -> None:
    load("plugin", write("hidden/plugin.py"))
    assert not importable("plugin")
    write("plugin.py")
    sys.path.append("elsewhere")  # which drops the earlier answer
    assert not importable("plugin")
    load("plugin", tmp_path / "plugin.py")
    assert importable("plugin")


def test_relative_entries_of_the_path_are_absolute_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep" / "lib").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "lib")
    monkeypatch.setattr(imports, "_meant", {})
    monkeypatch.setattr(sys, "path", ["", "lib", "/absolute", "__a_hook__", 3])
    monkeypatch.chdir(tmp_path / "deep")
    here = [str(tmp_path / "deep"), str(tmp_path / "deep" / "lib")]
    assert path_entries() == [*here, "/absolute", "__a_hook__"]
    monkeypatch.chdir(tmp_path)
    sys.path[:] = ["", "link/.."]
    assert path_entries() == [str(tmp_path), str(tmp_path / "link" / "..")], "which is not tmp_path"


def test_folders_that_modules_came_from_stay_on_the_path_of_workers_and_no_others(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_meant", {})
    for number in range(5):
        write(f"folder{number}/beside{number}.py")
    monkeypatch.setattr(sys, "path", ["", "/absolute"])
    for number in range(5):
        monkeypatch.chdir(tmp_path / f"folder{number}")
        assert path_entries()[0] == str(tmp_path / f"folder{number}")
        if number == 2:
            importlib.import_module("beside2")
    assert path_entries() == [str(tmp_path / "folder4"), "/absolute", str(tmp_path / "folder2")]
    del sys.modules["beside2"]
    monkeypatch.chdir(tmp_path)
    assert path_entries() == [str(tmp_path), "/absolute"]


def test_a_new_working_directory_is_another_path_where_that_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = imports.PathWatch()
    monkeypatch.setattr(sys, "path", ["/absolute"])
    assert watch.has_changed()
    monkeypatch.chdir(tmp_path)
    assert not watch.has_changed()
    sys.path.append("")
    assert watch.has_changed()
    assert not watch.has_changed()
    monkeypatch.chdir("/")
    assert watch.has_changed()
    assert not watch.has_changed()


def test_a_module_made_by_hand_is_not(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("made_by_hand", "json.made_by_hand", "colorsys"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        assert not importable(name)


def test_another_name_is_only_where_the_standard_library_gives_it(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("here.py")
    for name, known_as in (("my_json", "json"), ("json.here", "here")):
        monkeypatch.setitem(sys.modules, name, importlib.import_module(known_as))
        assert importable(known_as)
        assert not importable(name)


def test_a_removed_file_is_not_importable(write: Any) -> None:
    file = write("gone.py")
    importlib.import_module("gone")
    file.unlink()
    importlib.invalidate_caches()
    assert not importable("gone")


def test_a_symbolic_link_to_the_path_is_the_same_file(write: Any, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    write("linked.py")
    load("linked", tmp_path / "link" / "linked.py")
    assert importable("linked")


def test_a_compiled_file_is_the_same_module_as_its_source(write: Any, tmp_path: Path) -> None:
    py_compile.compile(str(write("compiled.py")), cfile=str(tmp_path / "compiled.pyc"))
    load("compiled", tmp_path / "compiled.pyc")
    assert importable("compiled")


def test_a_compiled_file_without_source_is_importable(write: Any, tmp_path: Path) -> None:
    source = write("bare.py")
    py_compile.compile(str(source), cfile=str(tmp_path / "bare.pyc"))
    source.unlink()
    importlib.invalidate_caches()
    importlib.import_module("bare")
    assert importable("bare")


def test_a_member_of_a_zip_archive_is_importable(
    tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped.py", "")
    assert not importable("zipped")
    monkeypatch.syspath_prepend(str(archive))
    importlib.import_module("zipped")
    assert importable("zipped")


def test_a_namespace_package_is_importable(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("space/mod.py")
    importlib.import_module("space.mod")
    assert importable("space")
    assert importable("space.mod")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    assert not importable("space")
    assert not importable("space.mod")


def test_a_submodule_without_a_file_that_an_extension_makes_is_importable(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"native{importlib.machinery.EXTENSION_SUFFIXES[0]}")
    monkeypatch.setitem(sys.modules, "native.part", types.ModuleType("native.part"))
    assert importable("native.part")
    assert not importable("native.absent")


def test_the_answer_follows_the_path(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("here.py")
    assert importable("here")
    sys.path.remove(str(tmp_path))
    assert not importable("here")
    sys.path.append(str(tmp_path))
    assert importable("here")


def test_the_answer_follows_the_module(write: Any) -> None:
    write("here.py")
    importlib.import_module("here")
    assert importable("here")
    sys.modules["here"] = types.ModuleType("here")
    assert not importable("here")


def test_an_answer_is_kept(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys, "meta_path", [Recorder(asked), *sys.meta_path])
    write("here.py")
    assert [importable("here") for _ in range(3)] == [True, True, True]
    assert asked == ["here"]


class Recorder:
    """A finder that notes what it is asked for, and finds nothing."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        self.asked.append(name)


class Finder:
    """A finder of one file, installed by hand: a fresh interpreter has no such thing."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.util.spec_from_file_location(name, self.path) if name == self.name else None


class Hostile:
    """A finder that raises."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        raise RuntimeError(name)


def test_what_only_a_finder_of_the_program_finds_is_not_importable(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = Finder("mod", write("hidden/mod.py"))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    importlib.import_module("mod")
    assert not importable("mod")
    assert foreign_finders()


def test_what_a_finder_that_site_installs_finds_is_importable(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = Finder("mod", write("hidden/mod.py"))
    monkeypatch.setattr(Finder, "__module__", "__editable___mod_1_0_finder")
    write(
        "__editable__.mod-1.0.pth",
        "import __editable___mod_1_0_finder; __editable___mod_1_0_finder.install()\n",
    )
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    importlib.import_module("mod")
    assert importable("mod")
    assert foreign_finders()


def test_a_finder_that_raises_makes_nothing_importable_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "meta_path", [Hostile(), *sys.meta_path])
    assert not importable("json")


def test_what_cannot_be_looked_up_for_want_of_descriptors_is_not_remembered_as_missing(
    write: Any, request: pytest.FixtureRequest
) -> None:
    write("here.py")
    write("absent_so_far.py")
    importlib.import_module("here")
    importlib.invalidate_caches()
    request.addfinalizer(arrays.free_descriptors)
    arrays.use_up_descriptors()
    while_none_is_left = importable("here"), importable("absent_so_far")
    arrays.free_descriptors()
    assert while_none_is_left == (True, False)
    assert importable("here")
    assert importable("absent_so_far")


def test_neither_pytest_nor_setuptools_nor_six_bring_foreign_finders(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(name: str) -> Any:
        return type("Finder", (), {"__module__": name, "find_spec": lambda *_: None})

    harmless = [named(name)() for name in ("_distutils_hack", "six", "pip._vendor.six")]
    standard = [importlib.machinery.BuiltinImporter, importlib.machinery.PathFinder]
    hooks = [finder for finder in sys.meta_path if type(finder).__module__.startswith("_pytest")]
    assert hooks
    monkeypatch.setattr(sys, "meta_path", [*harmless, *hooks, object(), *standard])
    assert not foreign_finders()
    sys.meta_path.append(named("__editable___x_finder"))
    assert foreign_finders()


def test_a_bare_interpreter_has_no_foreign_finders() -> None:
    code = "from offloop.contexts.imports import foreign_finders; print(foreign_finders())"
    command = [sys.executable, "-S", "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_a_fresh_interpreter_agrees(write: Any, tmp_path: Path) -> None:
    write("good.py")
    names = ["json", "good", "email.mime.text", "absent", "json.absent", "os.absent"]
    code = f"""if True:
        import sys; sys.path[:] = {sys.path}
        for name in {names}:
            try: __import__(name)
            except ImportError: print(False)
            else: print(True)"""
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert [str(importable(name)) for name in names] == result.stdout.split()
