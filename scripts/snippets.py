"""Run the snippets of README.md and of the pages in docs/, so that they cannot rot.

What counts is the language of a fenced block, and a comment on the line above it:

* ``python``: a whole program, run as ``__main__`` in an interpreter of its own.
  ``await`` may stand at its top level, as in a notebook.  It must exit with 0.
* ``text`` right behind it: what it prints; ``...`` stands for anything.
* ``console``: each line ``$ COMMAND`` is run by bash, and prints the lines below it.
* ``<!-- file: NAME -->`` above a block: it is saved under that name, and not run.
* ``<!-- fragment -->`` above a ``python`` block: it is compiled, and not run.
* ``<!-- needs: MODULE... -->`` above a ``python`` block: it is run where these can be imported.

The blocks of one page run in order, in one temporary folder.

Usage: python scripts/snippets.py [PAGE...]
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
#: Seconds that one block may take.
BOUND = 60.0

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>fragment|(?:file|needs): [\w. -]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(r"^\$ (.+)\n?((?:(?!\$ ).*\n?)*)", re.MULTILINE)

#: A program in a file, with ``await`` allowed at its top level.
_RUN = """\
import ast as _ast, asyncio as _asyncio, sys as _sys
_path = _sys.argv.pop(1)
with open(_path) as _file:
    _code = compile(_file.read(), _path, "exec", _ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
_coroutine = eval(_code)
if _coroutine is not None:
    _asyncio.run(_coroutine)
"""


class Block(NamedTuple):
    """One fenced block of a page, and the line that it begins on."""

    line: int
    language: str
    mark: str
    code: str
    output: str | None


def pages() -> list[Path]:
    """Every page whose blocks are run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, each ``python`` block with the output that is promised for it."""
    found = list(_BLOCK.finditer(text))
    for block, following in zip(found, [*found[1:], None], strict=False):
        output = None
        if following is not None and following["language"] == "text":
            between = text[block.end() : following.start()]
            output = following["code"] if not between.strip() else None
        line = text.count("\n", 0, block.start("language")) + 1
        yield Block(line, block["language"], block["mark"] or "", block["code"], output)


def problems(page: Path) -> list[str]:
    """What is wrong with a page: one text for each block that does not do what the page says."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for block in blocks(page.read_text("utf-8")):
            found += [
                f"{page.relative_to(ROOT)}:{block.line}: {text}" for text in _problems(block, Path(folder))
            ]
    return found


def _problems(block: Block, folder: Path) -> Iterator[str]:
    if block.mark.startswith("file: "):
        (folder / block.mark.removeprefix("file: ")).write_text(block.code)
    elif block.language == "console":
        for command, output in _COMMAND.findall(block.code):
            yield from _compare(output, _shell(command, folder), command)
    elif block.language == "python":
        compile(block.code, f"line {block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if not block.mark or _has_all(block.mark.removeprefix("needs: ")):
            yield from _run_program(block, folder)


def _has_all(modules: str) -> bool:
    """Whether all these can be imported; ``fragment`` names none."""
    return all(name != "fragment" and importlib.util.find_spec(name) for name in modules.split())


def _run_program(block: Block, folder: Path) -> Iterator[str]:
    program = folder / f"snippet_{block.line}.py"
    program.write_text(block.code)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(program)],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    if done.returncode:
        yield f"exited with {done.returncode}:\n{done.stdout}{done.stderr}"
    elif block.output is not None:
        yield from _compare(block.output, done.stdout, "the program")


def _shell(command: str, folder: Path) -> str:
    """What a command prints, stderr included."""
    functions = 'offloop() { "$PYTHON" -m offloop "$@"; }; python() { "$PYTHON" "$@"; }; '
    done = subprocess.run(
        ["bash", "-c", functions + command],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND,
        check=False,
    )
    return done.stdout


def _environment() -> dict[str, str]:
    """The variables under which a snippet finds this checkout, and what this interpreter finds."""
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)])
    # Unbuffered, as on a terminal: else what workers print overtakes the program.
    return {**os.environ, "PYTHONPATH": path, "PYTHON": sys.executable, "PYTHONUNBUFFERED": "1"}


def _compare(wanted: str, got: str, what: str) -> Iterator[str]:
    if not OutputChecker().check_output(wanted, got, ELLIPSIS | NORMALIZE_WHITESPACE):
        yield f"{what} should print\n{wanted}and prints\n{got}"


def main(names: list[str]) -> int:
    """Run all pages, or those named, and print what is wrong; 1 if anything was."""
    found: list[str] = []
    for page in [Path(name).resolve() for name in names] or pages():
        print(f"-- {page.relative_to(ROOT)}", flush=True)
        found += problems(page)
    for text in found:
        print(text)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
