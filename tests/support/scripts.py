"""Programs of their own: for what only a whole interpreter's life can show."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Seconds that a script may take.
SCRIPT_BOUND = 45


def run_script(
    code: str, directory: Path, how: str = "file", options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, given as a file, with ``-c`` or on standard input.

    The options are the interpreter's.

    Raises:
        subprocess.TimeoutExpired: it took longer than `SCRIPT_BOUND`; it is killed.
    """
    code = textwrap.dedent(code)
    arguments = {"file": [str(_write(code, directory))], "-c": ["-c", code], "stdin": ["-"]}[how]
    return subprocess.run(
        [sys.executable, *options, *arguments],
        input=code if how == "stdin" else "",
        text=True,
        capture_output=True,
        timeout=SCRIPT_BOUND,
        env=script_environment(),
        check=False,
    )


@contextmanager
def running_script(
    code: str, directory: Path, stderr: int | None = None, *, session: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run a program beside the test, which reads its stdout (and stderr); it is killed at the end.

    With ``session`` it has a session and a process group of its own, as in a terminal of its own.
    """
    arguments = [sys.executable, str(_write(textwrap.dedent(code), directory))]
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=script_environment(),
        start_new_session=session,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def script_environment() -> dict[str, str]:
    """The variables under which a script finds everything that the test finds.

    Unbuffered, which some machines set for all, lines of two processes could run into each other.
    From Python 3.13 on tracebacks on a terminal are coloured.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "", "PYTHON_COLORS": "0"}


def _write(code: str, directory: Path) -> Path:
    path = directory / "script.py"
    path.write_text(code)
    return path
