"""The house limits: files of at most 400 lines, functions of at most 40 (docstrings not counted).

Usage: python scripts/house.py PATH...
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function_length(function: Function) -> int:
    """Lines from ``def`` to the end, without decorators and without the docstring."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        length -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return length


def breaches(path: Path, source: str) -> Iterator[str]:
    """One line of text for each limit that this file exceeds."""
    if (lines := len(source.splitlines())) > FILE_LINES:
        yield f"{path}: {lines} lines, more than {FILE_LINES}"
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, Function) and (length := function_length(node)) > FUNCTION_LINES:
            yield f"{path}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_LINES}"


def python_files(roots: list[str]) -> Iterator[Path]:
    """The Python files among and below these paths."""
    for root in map(Path, roots):
        if not root.exists():
            raise SystemExit(f"no such file or folder: {root}")
        yield from sorted(root.rglob("*.py")) if root.is_dir() else [root]


def main(roots: list[str]) -> int:
    """Print every breach; 1 if there was one, else 0."""
    if not roots:
        raise SystemExit(__doc__)
    found = [line for path in python_files(roots) for line in breaches(path, path.read_text("utf-8"))]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
