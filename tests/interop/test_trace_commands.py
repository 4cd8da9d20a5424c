"""``offloop map --trace`` and ``offloop report``, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from offloop.cli import main
from offloop.observe.reading import read_trace

WORK = """
import os

def work(text):
    if text == "die":
        os._exit(3)
    return int(text)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "traced_work.py").write_text(WORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offloop(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "offloop", *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.run(command, capture_output=True, text=True, timeout=45, env=env, check=False)


def test_a_map_is_recorded_and_shown() -> None:
    # What dies comes first, and so alone: the worker after it is there until the end.
    done = offloop("map", "traced_work:work", "die", "1", "two", "4", "--trace", "run.json", "--workers", "1")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["1", "4"]
    events = json.loads(Path("run.json").read_text())
    outcomes = {event["args"]["task"]: event["args"]["outcome"] for event in events if event["cat"] == "task"
                if "task" in event["args"]}  # fmt: skip
    assert outcomes["work('two')"] == "failed"
    assert outcomes["work('die')"] == "crashed"
    assert {"crashed", "exited"} <= {event["name"] for event in events}
    shown = offloop("report", "run.json")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "run.html\n", "")
    assert "work('die')" in Path("run.html").read_text("utf-8")


def test_a_trace_that_cannot_be_written() -> None:
    done = offloop("map", "traced_work:work", "1", "--trace", "no/such.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "offloop map: cannot write the trace 'no/such.json': No such file or directory\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_costs_the_trace_and_no_result() -> None:
    done = offloop("map", "traced_work:work", "1", "--trace", "/dev/full")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr == "offloop map: the trace '/dev/full' is incomplete: No space left on device\n"


def test_where_the_page_goes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.trace").write_text('[\n{"ph":"i","ts":1,"name":"trace begins"},\n')
    assert main(["report", "a.trace"]) == 0
    assert main(["report", "a.trace", "-o", "b.html"]) == 0
    assert capsys.readouterr().out == "a.html\nb.html\n"
    assert main(["report", "a.trace", "-o", "a.trace"]) == 2
    assert "would replace the trace" in capsys.readouterr().err
    assert len(read_trace("a.trace")) == 1


def test_what_is_no_trace_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text").write_text("hello")
    Path("empty").write_text("[]")
    for name, text in [
        ("nothing", "nothing: No such file or directory"),
        ("text", "'text' is no trace: it is not an array of events"),
        ("empty", "nothing was recorded in this trace"),
    ]:
        assert main(["report", name]) == 2
        assert capsys.readouterr() == ("", f"offloop report: {text}\n")
    assert not list(Path().glob("*.html"))
