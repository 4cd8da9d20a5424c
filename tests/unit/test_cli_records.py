"""Output files: what a line says, what a file accounts for, and what is left of a torn one."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from offloop.cli.arguments import UsageError
from offloop.cli.records import Done, NotRecordsError, read_records, record, value_of
from offloop.cli.results import OutputFile

LINES = [record(text, json.dumps(text.upper())).encode() + b"\n" for text in ("a", "é\udcff\n", "a", "")]


def read(data: bytes) -> tuple[Done, int]:
    return read_records(io.BytesIO(data))


def has(done: Done, text: str, *, is_json: bool = False) -> bool:
    return done.take(text, is_json=is_json)


def test_a_record_is_one_line_of_json_in_ascii() -> None:
    assert record("é\n", "[1]") == '{"input": "\\u00e9\\n", "result": [1]}'


def test_an_input_is_done_as_often_as_it_has_lines() -> None:
    done, end = read(b"".join(LINES))
    assert end == sum(map(len, LINES))
    assert len(done) == 4
    assert [has(done, "a"), has(done, "a"), has(done, "a")] == [True, True, False]
    assert [has(done, "é\udcff\n"), has(done, ""), has(done, "b")] == [True, True, False]
    assert not done


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ('{"a": 1, "b": [2, null]}', '{"b":[2,null],  "a":1}'),
        ('"\\u00e9"', '"é"'),
        ("1.50", "1.5"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1e999", "1e999"),
    ],
)
def test_equal_json_is_an_equal_input(before: str, now: str) -> None:
    line = record(value_of(before, is_json=True), "0").encode() + b"\n"
    assert has(read(line)[0], now, is_json=True)


@pytest.mark.parametrize(("one", "other"), [("1", '"1"'), ("1", "1.0"), ("0", "false"), ("{}", "[]")])
def test_different_json_is_a_different_input(one: str, other: str) -> None:
    line = record(value_of(one, is_json=True), "0").encode() + b"\n"
    assert not has(read(line)[0], other, is_json=True)


def test_what_is_no_json_is_never_done() -> None:
    done, _ = read(LINES[0])
    assert not has(done, "{", is_json=True)
    assert not has(done, "[" * 100_000, is_json=True)


@given(st.integers(1, sum(map(len, LINES))), st.sampled_from([b"", b"\0", b"\0\0\n", b"\0\n" + LINES[0]]))
def test_wherever_a_file_is_torn_the_whole_lines_before_count(cut: int, zeros: bytes) -> None:
    whole = 0
    while whole < len(LINES) and sum(map(len, LINES[: whole + 1])) <= cut:
        whole += 1
    done, end = read(b"".join(LINES)[:cut] + zeros)
    assert (len(done), end) == (whole, sum(map(len, LINES[:whole])))


@pytest.mark.parametrize(
    "data",
    [
        b"my diary\n",
        b"my diary",
        b"\0\0\0",
        b"\0\n",
        b"[1]\n",
        b'{"input": 1}\n',
        b'{"result": 1}\n',
        b'{"input": 1, "result": \n',
        b"\xff\n",
        LINES[0] + b"diary\n",
        LINES[0] + b"[" * 100_000 + b"\n",
    ],
)
def test_what_is_no_file_of_records_is_refused(data: bytes) -> None:
    with pytest.raises(NotRecordsError, match=r"line [12] is no record"):
        read(data)


# The file


def open_and_write(path: Path, *lines: str, resume: bool = False) -> Done:
    with OutputFile(str(path), resume=resume) as output:
        for line in lines:
            output.lines.write_line(line)
        return output.done


def test_a_new_file_gets_lines_and_the_usual_mode(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        open_and_write(tmp_path / "out", "one", "two")
    finally:
        os.umask(umask)
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_a_file_that_is_gone_on_with_loses_its_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(LINES[0] + LINES[1] + LINES[2][:-2])
    assert len(open_and_write(path, "next", resume=True)) == 2
    assert path.read_bytes() == LINES[0] + LINES[1] + b"next\n"


def test_to_go_on_with_no_file_is_to_begin(tmp_path: Path) -> None:
    assert not open_and_write(tmp_path / "out", "one", resume=True)
    assert (tmp_path / "out").read_text() == "one\n"


def refused(path: Path, *, resume: bool) -> str:
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(UsageError) as caught:
        open_and_write(path, "never", resume=resume)
    assert (path.read_bytes() if path.is_file() else b"") == before
    return str(caught.value)


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("my diary")
    assert refused(path, resume=False).endswith("out holds something already; --resume goes on with it")
    assert refused(path, resume=True).endswith("out: line 1 is no record")


def test_an_empty_file_may_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    open_and_write(tmp_path / "out", "one")
    assert (tmp_path / "out").read_text() == "one\n"


def test_two_runs_do_not_write_to_one_file(tmp_path: Path, in_another_process: Any) -> None:
    path = tmp_path / "out"
    with OutputFile(str(path), resume=True):
        assert in_another_process(path) == f"{path} is being written by another run"
    assert in_another_process(path) == ""


@pytest.fixture
def in_another_process() -> Any:
    """Opens the file in another process (a lock does not stop its own), and says what stopped that."""
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from offloop.cli.arguments import UsageError\n"
        "from offloop.cli.results import OutputFile\n"
        "try:\n    OutputFile(sys.argv[1], resume=True)\n"
        "except UsageError as error:\n    print(error, end='')\n"
    )

    def run(path: Path) -> str:
        command = [sys.executable, "-c", code, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run


def test_what_is_no_regular_file_can_be_written_to_and_not_gone_on_with(tmp_path: Path) -> None:
    open_and_write(Path("/dev/null"), "one")
    assert refused(Path("/dev/null"), resume=True) == "/dev/null is not a file that could be gone on with"


def test_errors_of_the_system_are_told(tmp_path: Path) -> None:
    assert refused(tmp_path, resume=False).endswith(": Is a directory")
    assert refused(tmp_path / "no" / "out", resume=True).endswith(": No such file or directory")
    with pytest.raises(UsageError, match="cannot write to /dev/full: No space left on device"):
        open_and_write(Path("/dev/full"), "one")
