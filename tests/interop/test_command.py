"""The ``offloop`` command as a user runs it: a program in a shell."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BOUND = 45.0

WORK = """
import os, time

def double(text):
    return 2 * int(text)

def sleep_on(text):
    if text == "sleep":
        time.sleep(1000)
    return text

def die_on(text):
    if text == "die":
        os._exit(3)
    return os.getpid()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "cli_work.py").write_text(WORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def offloop(*arguments: str, stdin: str = "", module: str = "offloop") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=BOUND, env=environment(), check=False
    )


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell starts it."""
    command = [sys.executable, "-m", "offloop", *arguments]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )


@pytest.mark.parametrize("context", ["process", "thread"])
@pytest.mark.parametrize("module", ["offloop", "offloop.cli"])
def test_maps_over_standard_input(context: str, module: str) -> None:
    done = offloop("map", "cli_work:double", "--context", context, stdin="1\n2\n3\n", module=module)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n4\n6\n", "")


def test_maps_over_many_lines_of_a_file_in_order(here: Path) -> None:
    (here / "numbers").write_text("".join(f"{number}\n" for number in range(5000)))
    done = offloop("map", "./cli_work.py:double", "@numbers", "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert [int(line) for line in done.stdout.splitlines()] == [2 * number for number in range(5000)]


@pytest.mark.parametrize("flags", [[], ["--unordered"]])
def test_failures_of_every_kind_name_their_input(flags: list[str]) -> None:
    inputs = ["a", "die", "b", "c"]
    done = offloop("map", "cli_work:die_on", *inputs, "--workers", "2", *flags)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3
    assert re.fullmatch(r"die: WorkerCrashed: .*\n", done.stderr)


def test_an_input_that_takes_too_long_fails_alone() -> None:
    done = offloop("map", "cli_work:sleep_on", "a", "sleep", "b", "--timeout", "0.2")
    assert (done.returncode, done.stdout) == (1, '"a"\n"b"\n')
    assert re.fullmatch(r"sleep: TaskTimeout: .*\n", done.stderr)


def test_unordered_gives_every_result() -> None:
    done = offloop(
        "map", "cli_work:double", "--unordered", stdin="".join(f"{number}\n" for number in range(500))
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(map(int, done.stdout.split())) == [2 * number for number in range(500)]


def test_a_result_arrives_while_the_input_is_still_open() -> None:
    with start("map", "cli_work:double") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("21\n")
        process.stdin.flush()
        assert process.stdout.readline() == "42\n"
        process.stdin.close()
        assert process.wait(BOUND) == 0


@pytest.mark.parametrize("flags", [[], ["--unordered"]])
def test_ends_quietly_when_its_reader_leaves(flags: list[str]) -> None:
    with start("map", "cli_work:double", *flags) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("1\n")
        process.stdin.flush()
        assert process.stdout.readline() == "2\n"
        process.stdout.close()
        process.stdin.write("2\n3\n")
        process.stdin.flush()
        assert process.wait(BOUND) == 141
        assert process.stderr.read() == ""


@pytest.mark.parametrize("flags", [[], ["--unordered"]])
def test_ctrl_c_stops_it_with_one_line(flags: list[str]) -> None:
    with start("map", "cli_work:sleep_on", "awake", "sleep", "--workers", "1", *flags) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline()) == "awake"
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        assert process.wait(BOUND) == 130
        assert process.stderr.read() == "offloop map: interrupted\n"
        assert process.stdout.read() == ""


def test_works_without_rich() -> None:
    blocked = (
        "import sys; sys.modules['rich'] = None\n"
        "from offloop.cli import main\n"
        "sys.stderr.isatty = lambda: True\n"
        "sys.exit(main(['map', 'cli_work:double', '1', '2']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked],
        capture_output=True,
        text=True,
        timeout=BOUND,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n4\n", "")
