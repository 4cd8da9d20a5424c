"""The ``offloop`` command where standard output or standard error fails it, or nobody reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BOUND = 45.0

WORK = """
import time

def odd(text):
    if int(text) % 2:
        raise ValueError(f"{text} is odd")
    return int(text)

def echo(text):
    return text
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def running(*arguments: str, stdout: int, stderr: int) -> Iterator[subprocess.Popen[str]]:
    """The command, which is killed if it is still there at the end."""
    command = [sys.executable, "-m", "offloop", *arguments]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "", "TERM": "xterm"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True, env=env
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def unwritable(kind: str) -> Iterator[int]:
    """A descriptor on a full disk, or a pipe whose reader has gone."""
    if kind == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("kind", ["full", "gone"])
@pytest.mark.parametrize("flags", [[], ["--progress", "--traceback"], ["--trace", "/dev/full"]])
def test_a_standard_error_that_cannot_be_written_changes_nothing(
    kind: str, flags: list[str], here: Path
) -> None:
    command = ["map", "work:odd", *map(str, range(100)), "--output", "out", *flags]
    with (
        unwritable(kind) as stderr,
        running(*command, stdout=subprocess.DEVNULL, stderr=stderr) as process,
    ):
        assert process.wait(BOUND) == 1
    assert len((here / "out").read_text().splitlines()) == 50


COMMANDS = pytest.mark.parametrize(
    "arguments",
    [["--help"], ["doctor", "--help"], ["doctor"], ["completion", "bash"], ["map", "work:echo", "a"]],
    ids=" ".join,
)


@COMMANDS
def test_a_standard_output_that_cannot_be_written_is_one_line_and_status_2(arguments: list[str]) -> None:
    with (
        unwritable("full") as stdout,
        running(*arguments, stdout=stdout, stderr=subprocess.PIPE) as process,
    ):
        _, said = process.communicate(timeout=BOUND)
    reason = "cannot write to standard output: No space left on device"
    assert (process.returncode, said) == (2, f"offloop {arguments[0]}: {reason}\n")


@COMMANDS
def test_a_standard_output_whose_reader_has_gone_ends_it_quietly(arguments: list[str]) -> None:
    with (
        unwritable("gone") as stdout,
        running(*arguments, stdout=stdout, stderr=subprocess.PIPE) as process,
    ):
        _, said = process.communicate(timeout=BOUND)
    assert (process.returncode, said) == (141, "")
