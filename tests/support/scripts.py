"""Programs of their own: for what only a whole interpreter's life can show."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Seconds that a script may take.
SCRIPT_BOUND = 45


def run_script(code: str, directory: Path, how: str = "file") -> subprocess.CompletedProcess[str]:
    """Run a program to its end, given as a file, with ``-c`` or on standard input.

    Raises:
        subprocess.TimeoutExpired: it took longer than `SCRIPT_BOUND`; it is killed.
    """
    code = textwrap.dedent(code)
    arguments = {"file": [str(_write(code, directory))], "-c": ["-c", code], "stdin": ["-"]}[how]
    return subprocess.run(
        [sys.executable, *arguments],
        input=code if how == "stdin" else "",
        text=True,
        capture_output=True,
        timeout=SCRIPT_BOUND,
        env=script_environment(),
        check=False,
    )


@contextmanager
def running_script(code: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program beside the test, which reads its stdout; it is killed at the end."""
    arguments = [sys.executable, str(_write(textwrap.dedent(code), directory))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=script_environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def script_environment() -> dict[str, str]:
    """The variables under which a script finds everything that the test finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def _write(code: str, directory: Path) -> Path:
    path = directory / "script.py"
    path.write_text(code)
    return path
