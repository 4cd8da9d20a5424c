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
import os, signal, sys, time

os.environ.setdefault("COMMAND", str(os.getpid()))  # workers inherit it

def double(text):
    return 2 * int(text)

def sleep_on(text):
    if text == "sleep":
        time.sleep(1000)
    return text

def cling_on(text):
    try:
        print("clinging", file=sys.stderr, flush=True)
        while True:
            time.sleep(1)
    finally:
        print("cancelled", file=sys.stderr, flush=True)
        time.sleep(1000)

def fragile(text):
    with open("calls", "ab") as calls:
        calls.write(b".")
        calls.flush()
        if str(calls.tell()) != os.environ.get("KILL_AT"):
            return int(text)
    os.kill(int(os.environ["COMMAND"]), signal.SIGKILL)
    time.sleep(1000)

def die_on(text):
    if text == "die":
        os._exit(3)
    return os.getpid()
"""

CHATTY = """
import os
if "CHATTY" not in os.environ:
    print("by the module", flush=True)
os.environ["CHATTY"] = "workers inherit it"

def echo(text):
    print("by print")
    os.system("echo by a child")
    return text
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


@pytest.mark.parametrize("flags", [[], ["--unordered"], ["--context", "thread"]])
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_a_signal_ends_it_in_good_order(number: int, status: int, word: str, flags: list[str]) -> None:
    with start("map", "cli_work:sleep_on", "awake", "sleep", "--workers", "1", *flags) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline()) == "awake"
        os.killpg(process.pid, number)  # what a terminal does
        assert process.wait(BOUND) == status
        said = process.stderr.read().splitlines()
        assert said[-2] == f"offloop map: {word}: 1 of 2 inputs done"
        assert process.stdout.read() == ""


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under ``nohup``, and in the background jobs of a shell script."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'offloop', 'map', 'cli_work:double'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{2 * number}\n"
            process.send_signal(signal.SIGHUP)
        process.stdin.close()
        assert process.wait(BOUND) == 0


def test_a_second_ctrl_c_does_not_wait_for_what_will_not_end() -> None:
    with start("map", "cli_work:cling_on", "1", "--workers", "1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == "clinging\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr.readline() == "cancelled\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(BOUND) == 130
        assert process.stderr.readline() == "offloop map: interrupted: 0 of 1 input done\n"


@pytest.mark.parametrize("flags", [[], ["--unordered"]])
def test_after_any_number_of_kills_no_input_is_lost_or_there_twice(
    here: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [str(number % 300) for number in range(400)]  # some of them twice
    (here / "inputs").write_text("\n".join(inputs))
    command = ["map", "cli_work:fragile", "@inputs", "--output", "out", "--resume", "--workers", "2", *flags]
    for calls in ("1", "130", "60"):
        monkeypatch.setenv("KILL_AT", calls)
        assert offloop(*command).returncode == -signal.SIGKILL
        (here / "calls").unlink()
    monkeypatch.delenv("KILL_AT")
    with open(here / "out", "a") as torn:
        torn.write('{"input": "4')
    done = offloop(*command)
    assert done.returncode == 0
    results = [json.loads(line)["result"] for line in (here / "out").read_text().splitlines()]
    expected = [int(text) for text in inputs]
    assert results == expected if not flags else sorted(results) == sorted(expected)


def test_ctrl_c_tells_how_to_go_on(here: Path) -> None:
    command = ["map", "cli_work:sleep_on", "-", "--output", "out"]
    with start(*command) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("awake\nsleep\n")
        process.stdin.flush()
        while not (here / "out").exists() or not (here / "out").read_text():
            os.sched_yield()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(BOUND) == 130
        again = " ".join(["offloop", "map", "--resume", *command[1:]])
        assert process.stderr.read().splitlines() == [
            "offloop map: interrupted: 1 input done",
            f"offloop map: to go on: {again}, with the same standard input",
        ]


def test_what_is_printed_is_not_taken_for_results(here: Path) -> None:
    (here / "chatty.py").write_text(CHATTY)
    done = offloop("map", "chatty:echo", "a")
    assert (done.returncode, done.stdout) == (0, '"a"\n')
    assert sorted(done.stderr.splitlines()) == ["by a child", "by print", "by the module"]


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_standard_files_may_be_closed(closed: list[int], here: Path) -> None:
    code = (
        f"import os, sys\nfor each in {closed}: os.close(each)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'offloop', *sys.argv[1:]])"
    )
    arguments = ["map", "cli_work:double", "1", "x", "--output", "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND,
        env=environment(),
    )
    assert done.returncode == 1
    assert (here / "out").read_text() == '{"input": "1", "result": 2}\n'
    assert done.stdout == ""


def test_a_standard_output_that_is_closed_is_an_error() -> None:
    command = f"{sys.executable} -m offloop map cli_work:double 1 >&-"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=BOUND, env=environment()
    )
    assert done.returncode == 2
    assert done.stderr == "offloop map: cannot write to standard output: Bad file descriptor\n"


def test_inputs_that_cannot_be_read_are_one_line(here: Path) -> None:
    done = offloop("map", "cli_work:double", "@/proc/self/mem")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "offloop map: cannot read /proc/self/mem: Input/output error\n"


def test_on_a_terminal_there_is_a_bar_and_results_are_above_it() -> None:
    master, terminal = os.openpty()
    command = [sys.executable, "-m", "offloop", "map", "cli_work:double", "1", "x", "3"]
    variables = {**environment(), "TERM": "xterm", "COLUMNS": "60"}
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=variables, start_new_session=True
    ) as process:
        os.close(terminal)
        shown = b""
        while block := _read(master):
            shown += block
        assert process.wait(BOUND) == 1
    os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    assert [line for line in lines if line in {"2", "6"} or line.startswith("x: ")] == [
        "2",
        "x: ValueError: invalid literal for int() with base 10: 'x'",
        "6",
    ]
    assert re.match(r"cli_work:double .* 3/3 ", lines[-2])


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # so Linux says that the other end was closed
        return b""


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
