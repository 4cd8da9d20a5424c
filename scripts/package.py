"""Builds the sdist and the wheel into .venv/dist, and checks them; 1 if something is wrong with them.

The wheel holds what is in src/offloop, and nothing else; the sdist what it takes
to build, test and document it.  Both pass ``twine check --strict``.  Nothing is
fetched: it is built without isolation, with what the environment of the checks has.

Usage: python scripts/package.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / ".venv" / "dist"

#: What a wheel has besides the package.
INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}

#: What must be among the files of the sdist, and what the tests of an sdist need.
SOURCE = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "docs/index.md",
    "examples/notebook.ipynb",
    "mkdocs.yml",
    "pyproject.toml",
    "scripts/test",
    "tests/conftest.py",
}


def build() -> tuple[Path, Path]:
    """The sdist and the wheel; the wheel is built from the sdist, as an installer would."""
    shutil.rmtree(DIST, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    [sdist], [wheel] = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    return sdist, wheel


def package_files() -> set[str]:
    """What the wheel should have of the package."""
    source = ROOT / "src"
    return {
        str(path.relative_to(source))
        for path in (source / "offloop").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def wheel_problems(names: set[str]) -> Iterator[str]:
    """What is too much in the wheel, and what is missing."""
    info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    wanted = package_files()
    yield from (f"the wheel lacks {name}" for name in sorted(wanted - names))
    yield from (f"the wheel has {name}" for name in sorted(names - info - wanted))
    found = {name.partition("/")[2] for name in info}
    yield from (f"the wheel's dist-info differs in {name}" for name in sorted(found ^ INFO))


def sdist_problems(names: set[str]) -> Iterator[str]:
    """What is missing in the sdist, and what was never meant to be there."""
    inner = {name.partition("/")[2] for name in names}
    wanted = SOURCE | {f"src/{name}" for name in package_files()}
    yield from (f"the sdist lacks {name}" for name in sorted(wanted - inner))
    yield from (
        f"the sdist has {name}" for name in sorted(inner) if "__pycache__" in name or name.startswith(".venv")
    )


def main() -> int:
    """Build, check, and print what is wrong."""
    sdist, wheel = build()
    with zipfile.ZipFile(wheel) as archive:
        problems = list(wheel_problems(set(archive.namelist())))
    with tarfile.open(sdist) as archive:
        problems += sdist_problems({member.name for member in archive.getmembers() if member.isfile()})
    twine = [sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel)]
    done = subprocess.run(twine, capture_output=True, text=True, check=False)
    problems += [done.stdout] if done.returncode else []
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
