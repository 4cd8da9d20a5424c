"""The scripts that hold the house limits."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def script(name: str) -> ModuleType:
    """A script, imported and not run."""
    spec = spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def function_of(lines: int, docstring: int = 0) -> str:
    """A function with so many lines of code, its ``def`` included, and of docstring."""
    text = '    """' + "\n" * (docstring - 1) + '"""\n' if docstring else ""
    return "@decorated\ndef made():\n" + text + "    pass\n" * (lines - 1)


@pytest.mark.parametrize(
    ("lines", "docstring", "fine"), [(40, 0, True), (40, 30, True), (41, 0, False), (41, 5, False)]
)
def test_functions_are_counted_without_docstring_and_decorators(
    lines: int, docstring: int, fine: bool
) -> None:
    found = list(script("house").breaches(Path("made.py"), function_of(lines, docstring)))
    expected = [] if fine else [f"made.py:2: made has {lines} lines, more than 40"]
    assert found == expected


def test_a_nested_function_counts_for_itself_and_for_its_owner() -> None:
    source = "class A:\n    def outer(self):\n        def inner():\n" + "            pass\n" * 40
    found = list(script("house").breaches(Path("made.py"), source))
    assert [line.split(" has ")[0] for line in found] == ["made.py:2: outer", "made.py:3: inner"]


def test_a_file_may_have_400_lines_and_not_401(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house = script("house")
    (tmp_path / "made.py").write_text("x = 1\n" * 400)
    assert house.main([str(tmp_path)]) == 0
    (tmp_path / "made.py").write_text("x = 1\n" * 401)
    assert house.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{tmp_path}/made.py: 401 lines, more than 400\n"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("offloop", True),
        ("offloop.child.template", True),
        ("offloop.wire.frames", True),
        ("offloop.workerpool", False),
        ("_socket", True),
        ("socket", False),
        ("importlib.machinery", True),
        ("importlib.metadata", False),
        ("asyncio.events", False),
        ("dataclasses", False),
        ("typing", False),
        ("_pickle", True),
        ("pickle", False),
        ("cloudpickle", False),
    ],
)
def test_the_rule_on_what_a_worker_may_load(name: str, allowed: bool) -> None:
    assert (script("worker_imports").breach(name) is None) == allowed


@pytest.mark.parametrize(
    ("module", "status", "words"), [("offloop.errors", 0, "ms from start"), ("json", 1, "json (heavy)")]
)
def test_what_a_worker_loads_is_listed_and_judged(module: str, status: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "worker_imports.py", module],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert words in done.stdout


def test_a_worker_that_cannot_start_is_told_with_its_traceback() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "worker_imports.py", "offloop.nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "No module named 'offloop.nothing'" in done.stderr
    assert "import time" not in done.stderr


@pytest.mark.parametrize("name", ["test", "check", "demo"])
def test_a_python_that_is_too_old_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    old = tmp_path / "old_python"
    old.write_text("#!/bin/sh\necho 3.10\nexit 1\n")
    old.chmod(0o755)
    for python, words in ((old, "is 3.10"), (tmp_path / "none", "there is no program")):
        done = subprocess.run(
            [ROOT / "scripts" / name],
            env={**os.environ, "PYTHON": str(python)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_wheel_has_the_package_and_nothing_else() -> None:
    package = script("package")
    good = package.package_files() | {f"offloop-1.dist-info/{name}" for name in package.INFO}
    assert {"offloop/__init__.py", "offloop/py.typed"} < good
    assert list(package.wheel_problems(good)) == []
    wrong = good - {"offloop/py.typed", "offloop-1.dist-info/licenses/LICENSE"} | {"tests/conftest.py"}
    assert list(package.wheel_problems(wrong)) == [
        "the wheel lacks offloop/py.typed",
        "the wheel has tests/conftest.py",
        "the wheel's dist-info differs in licenses/LICENSE",
    ]


def test_a_sdist_has_what_its_tests_need() -> None:
    package = script("package")
    files = package.SOURCE | {f"src/{name}" for name in package.package_files()}
    names = {f"offloop-1/{name}" for name in files}
    assert list(package.sdist_problems(names)) == []
    names = names - {"offloop-1/mkdocs.yml"} | {"offloop-1/src/offloop/__pycache__/task.pyc"}
    assert list(package.sdist_problems(names)) == [
        "the sdist lacks mkdocs.yml",
        "the sdist has src/offloop/__pycache__/task.pyc",
    ]
