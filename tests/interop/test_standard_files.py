"""The ``offloop`` command where standard output or standard error fails it, or nobody reads them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

BOUND = 45.0
#: More bytes than a pipe holds.
LARGE = 1 << 18

WORK = """
import os
import time

def odd(text):
    if int(text) % 2:
        raise ValueError(f"{text} is odd")
    return int(text)

def fail(text):
    raise ValueError(text)

def echo(text):
    return text

def shout(text):
    print(text, end=" ")
    return text

class Large:
    def __repr__(self):
        os.read(os.open("go", os.O_RDONLY), 1)
        return "x" * (1 << 18)

def large(text):
    return Large()
"""

SIGNALS = pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def running(
    *arguments: str, stdout: int, stderr: int, python: tuple[str, ...] = ("-m", "offloop")
) -> Iterator[subprocess.Popen[str]]:
    """The command, which is killed if it is still there at the end."""
    command = [sys.executable, *python, *arguments]
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


@contextmanager
def unread_pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def wait_stuck(reader: int, process: subprocess.Popen[str]) -> None:
    """Wait until a process sleeps over what it writes to a pipe, which holds no more."""
    capacity, writer = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ), psutil.Process(process.pid)
    while _held_by(reader) < capacity or writer.status() != psutil.STATUS_SLEEPING:
        assert process.poll() is None
        os.sched_yield()


def _held_by(reader: int) -> int:
    return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)


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


@pytest.mark.parametrize("flags", [[], ["--no-progress"]])
def test_a_terminal_that_goes_away_ends_it_as_its_signal_says(flags: list[str]) -> None:
    master, terminal = os.openpty()
    with running(
        "map", "time:sleep", "0", "1000", "--jsonl", *flags, stdout=subprocess.PIPE, stderr=terminal
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "null\n"
        os.close(terminal)
        os.close(master)
        process.send_signal(signal.SIGHUP)  # as the kernel would send it to the terminal's own session
        assert process.wait(BOUND) == 129


@SIGNALS
def test_a_signal_ends_it_while_nobody_reads_its_results(number: int, status: int, here: Path) -> None:
    (here / "large").write_text("x" * LARGE)
    with (
        unread_pipe() as (reader, writer),
        running("map", "work:echo", "@large", stdout=writer, stderr=subprocess.PIPE) as process,
    ):
        assert process.stderr is not None
        wait_stuck(reader, process)
        process.send_signal(number)
        assert process.wait(BOUND) == status
        assert process.stderr.readline().endswith(": 0 of 1 input done\n")


@SIGNALS
@pytest.mark.parametrize("function", ["work:echo", "work:fail"])
def test_a_signal_ends_it_while_nobody_reads_anything(
    function: str, number: int, status: int, here: Path
) -> None:
    (here / "large").write_text("x" * LARGE)
    with (
        unread_pipe() as (reader, writer),
        running("map", function, "@large", "-", stdout=writer, stderr=writer) as process,
    ):
        wait_stuck(reader, process)
        process.send_signal(number)
        assert process.wait(BOUND) == status


def run_onto(kind: str, arguments: list[str]) -> tuple[int, str]:
    """The status of a command whose standard output is `unwritable`, and what it says of that."""
    with (
        unwritable(kind) as stdout,
        running(*arguments, stdout=stdout, stderr=subprocess.PIPE) as process,
    ):
        _, said = process.communicate(timeout=BOUND)
    return process.returncode, said


COMMANDS = pytest.mark.parametrize(
    "arguments",
    [["--help"], ["doctor", "--help"], ["doctor"], ["completion", "bash"], ["map", "work:echo", "a"]],
    ids=" ".join,
)


@COMMANDS
def test_a_standard_output_that_cannot_be_written_is_one_line_and_status_2(arguments: list[str]) -> None:
    reason = "cannot write to standard output: No space left on device"
    assert run_onto("full", arguments) == (2, f"offloop {arguments[0]}: {reason}\n")


@COMMANDS
def test_a_standard_output_whose_reader_has_gone_ends_it_quietly(arguments: list[str]) -> None:
    assert run_onto("gone", arguments) == (141, "")


IN_A_THREAD = ["--context", "thread", "--workers", "1"]


def test_a_signal_before_a_line_that_nobody_reads_ends_it_as_well(here: Path) -> None:
    os.mkfifo(here / "go")
    with (
        unread_pipe() as (_, writer),
        running("map", "work:large", "a", *IN_A_THREAD, stdout=writer, stderr=subprocess.PIPE) as process,
    ):
        with open(here / "go", "w") as go:  # it is open once the result is being made into JSON
            process.send_signal(signal.SIGTERM)
            go.write("!")
        _, said = process.communicate(timeout=BOUND)
    assert process.returncode == 143
    assert "ended by SIGTERM: 0 of 1 input done" in said


@pytest.mark.parametrize(("function", "status"), [("work:echo", 0), ("work:fail", 1)])
def test_a_pipe_that_does_not_block_is_waited_for_all_the_same(
    function: str, status: int, here: Path
) -> None:
    (here / "large").write_text("x" * LARGE)
    with unread_pipe() as (reader, writer):
        os.set_blocking(writer, False)
        with running("map", function, "@large", *IN_A_THREAD, stdout=writer, stderr=writer) as process:
            wait_stuck(reader, process)
            seen = b""
            while not seen.endswith(b"\n"):
                seen += os.read(reader, 1 << 16)
            assert process.wait(BOUND) == status
    assert len(seen) > LARGE


EMBEDDING = """
import sys
from offloop.cli import main
print("first")
streams = sys.stdout, sys.stderr
for text in ("a", "b"):
    main(["map", "work:echo", text, *sys.argv[1:]])
    print("then")
assert (sys.stdout, sys.stderr) == streams
"""


def test_a_program_that_runs_it_has_its_own_output_around_that() -> None:
    with running(
        *IN_A_THREAD, stdout=subprocess.PIPE, stderr=subprocess.PIPE, python=("-c", EMBEDDING)
    ) as process:
        out, said = process.communicate(timeout=BOUND)
    assert (out.split(), said) == (["first", '"a"', "then", '"b"', "then"], "")


STOPPED_BEFORE = """
import sys
from offloop.cli import main
from offloop.cli.standard import standard_files, wait_no_more
with standard_files():
    wait_no_more()
main(["map", *sys.argv[1:]])
"""


def test_a_run_after_one_that_was_stopped_waits_for_its_readers_again(here: Path) -> None:
    (here / "large").write_text("x" * LARGE)
    with unread_pipe() as (reader, writer):
        command = ["work:fail", "@large", "--traceback", *IN_A_THREAD]
        with running(*command, stdout=writer, stderr=writer, python=("-c", STOPPED_BEFORE)) as process:
            wait_stuck(reader, process)


@pytest.mark.parametrize(("python", "first"), [(("-u",), "a "), ((), '"a"\n')])
def test_what_a_function_prints_is_held_back_only_where_python_does(
    python: tuple[str, ...], first: str, here: Path
) -> None:
    with running(
        *("map", "work:shout", "a", *IN_A_THREAD),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        python=(*python, "-m", "offloop"),
    ) as process:
        out, _ = process.communicate(timeout=BOUND)
    assert (out[: len(first)], sorted(out)) == (first, sorted('a "a"\n'))
