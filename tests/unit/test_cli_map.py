"""``offloop map`` with workers in this process: what it writes where, and what it says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from support import mapped

from offloop import WorkerPool
from offloop.cli.arguments import UsageError
from offloop.cli.commands.map import parse
from offloop.cli.run import run_map
from offloop.testing import InlineWorkerFactory

Output = pytest.CaptureFixture[str]
BOTH_ORDERS = pytest.mark.parametrize("flags", [[], ["--unordered"]])


def pool_of_one(max_workers: int | None, factory: str) -> WorkerPool:
    return WorkerPool(1, factory=InlineWorkerFactory())


def pickling_pool(max_workers: int | None, factory: str) -> WorkerPool:
    return WorkerPool(1, factory=InlineWorkerFactory(pickling=True))


def run(*arguments: str) -> int:
    return run_map(parse(arguments), pool_of_one)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])


# Results and failures


def test_results_are_json_lines_in_order(capfd: Output) -> None:
    assert run("support.mapped:double", "3", "1", "2") == 0
    assert capfd.readouterr() == ("6\n2\n4\n", "")


@BOTH_ORDERS
def test_a_failure_names_its_input_and_the_others_go_on(capfd: Output, flags: list[str]) -> None:
    assert run("support.mapped:double", "1", "two", "3", *flags) == 1
    out, err = capfd.readouterr()
    assert out == "2\n6\n"
    assert err == "two: ValueError: invalid literal for int() with base 10: 'two'\n"


def test_a_failure_can_have_its_traceback(capfd: Output) -> None:
    assert run("support.mapped:double", "two", "--traceback") == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("two: ValueError: ")
    assert lines[1] == "Traceback (most recent call last):"
    assert any("return 2 * int(text)" in line for line in lines)
    assert lines[-1].startswith(("ValueError: invalid literal", "item 0 of map"))


def test_a_traceback_tells_of_causes_too(capfd: Output) -> None:
    for kind in ("cause", "context", "nothing"):
        run_map(parse(["support.mapped:because_of", kind, "--traceback"]), pickling_pool)
    lines = capfd.readouterr().err.splitlines()
    begin, end = "Traceback (most recent call last):", "RuntimeError: wrapped"
    assert [line for line in lines if line and not line.startswith(" ")] == [
        *("cause: RuntimeError: wrapped", begin, "KeyError: 'cause'"),
        *("The above exception was the direct cause of the following exception:", begin, end),
        *("context: RuntimeError: wrapped", begin, "KeyError: 'context'"),
        *("During handling of the above exception, another exception occurred:", begin, end),
        *("nothing: RuntimeError: wrapped", begin, end),
    ]


def test_a_failure_is_one_line_whatever_the_input_holds(capfd: Output) -> None:
    assert run("support.mapped:double", "a\nb\x1b[2J\udcff", "x" * 1000) == 1
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("a\\nb\\x1b[2J\\udcff: ValueError: ")
    assert second.startswith("x" * 199 + "…: ValueError: ")


@BOTH_ORDERS
def test_fail_fast_stops_at_the_first_failure(capfd: Output, flags: list[str]) -> None:
    assert run("support.mapped:double", "1", "two", *map(str, range(5000)), "--fail-fast", *flags) == 1
    out, err = capfd.readouterr()
    assert out == "2\n"
    assert err.splitlines() == [
        "two: ValueError: invalid literal for int() with base 10: 'two'",
        "offloop map: stopped at the first failure: 1 of 5,002 inputs done, 1 failed",
        "offloop map: to be able to go on after an interruption, give it --output FILE",
    ]


@pytest.mark.parametrize(
    ("function", "result"),
    [("later", '"abc"'), ("letters", '["a", "b", "c"]'), ("later_letters", '["a", "b", "c"]')],
)
def test_functions_of_every_kind(capfd: Output, function: str, result: str) -> None:
    assert run(f"support.mapped:{function}", "abc") == 0
    assert capfd.readouterr() == (f"{result}\n", "")


def test_results_come_alone_on_standard_output(capfd: Output) -> None:
    assert run("support.mapped:shout", "a") == 0
    print("after it, prints go where they went before", flush=True)
    out, err = capfd.readouterr()
    assert out == '"A"\nafter it, prints go where they went before\n'
    assert err == "shouting a\n"


def test_results_may_come_with_their_inputs(capfd: Output) -> None:
    assert run("support.mapped:double", "1", "--with-input") == 0
    assert run("support.mapped:echo", '{"b": [1], "a": 2}', "--with-input", "--jsonl") == 0
    assert capfd.readouterr().out.splitlines() == [
        '{"input": "1", "result": 2}',
        '{"input": {"b": [1], "a": 2}, "result": {"b": [1], "a": 2}}',
    ]


def test_json_lines_become_arguments_and_blank_ones_are_left_out(capfd: Output, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"a": 1, "b": 2}\n\n [3]\n{"a"\n')
    assert run("support.mapped:echo", "--jsonl", "@lines") == 1
    out, err = capfd.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [{"a": 1, "b": 2}, [3]]
    assert err.startswith('{"a": JSONDecodeError: ')


def test_a_nul_ends_each_input(capfd: Output, tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"a\nb\0c\r\n\0")
    assert run("support.mapped:echo", "-0", "@names", "d") == 0
    assert [json.loads(line) for line in capfd.readouterr().out.splitlines()] == ["a\nb", "c\r\n", "d"]


def test_no_worker_that_starts_is_one_line(capfd: Output) -> None:
    def broken(max_workers: int | None, factory: str) -> WorkerPool:
        return WorkerPool(1, factory=InlineWorkerFactory(bootstrap=mapped.double))

    with pytest.raises(UsageError, match="WorkerStartError: "):
        run_map(parse(["support.mapped:double", *map(str, range(100))]), broken)


# Output files


def records(path: Path) -> list[tuple[object, object]]:
    return [(each["input"], each["result"]) for each in map(json.loads, path.read_text().splitlines())]


def test_an_output_file_has_records_and_prints_go_to_stdout(capfd: Output, tmp_path: Path) -> None:
    assert run("support.mapped:shout", "a", "b", "--output", "out") == 0
    assert capfd.readouterr() == ("shouting a\nshouting b\n", "")
    assert records(tmp_path / "out") == [("a", "A"), ("b", "B")]


def test_to_resume_runs_what_has_no_record(capfd: Output, tmp_path: Path) -> None:
    assert run("support.mapped:double", "1", "x", "1", "--output", "out") == 1
    assert run("support.mapped:double", "1", "x", "1", "4", "1", "--output", "out", "--resume") == 1
    assert records(tmp_path / "out") == [("1", 2), ("1", 2), ("4", 8), ("1", 2)]
    said = capfd.readouterr().err.splitlines()
    assert said[1] == "offloop map: out has the results of 2 inputs already"
    assert [line[:2] for line in said] == ["x:", "of", "x:"]


def test_to_resume_what_is_complete_changes_nothing(capfd: Output, tmp_path: Path) -> None:
    for _ in range(2):
        assert (
            run("support.mapped:echo", "--jsonl", '{"a": 1, "b": 2}', "2", "--output", "out", "--resume") == 0
        )
    assert records(tmp_path / "out") == [({"a": 1, "b": 2}, {"a": 1, "b": 2}), (2, 2)]


def test_results_of_other_inputs_are_told_and_kept(capfd: Output, tmp_path: Path) -> None:
    assert run("support.mapped:double", "1", "2", "3", "--output", "out") == 0
    assert run("support.mapped:double", "2", "4", "--output", "out", "--resume") == 0
    assert records(tmp_path / "out") == [("1", 2), ("2", 4), ("3", 6), ("4", 8)]
    assert (
        capfd.readouterr().err.splitlines()[-1] == "offloop map: out also has the results of 2 other inputs"
    )


def test_what_with_input_wrote_can_be_gone_on_with(capfd: Output, tmp_path: Path) -> None:
    assert run("support.mapped:double", "1", "--with-input") == 0
    (tmp_path / "out").write_text(capfd.readouterr().out)
    assert run("support.mapped:double", "1", "2", "--output", "out", "--resume") == 0
    assert records(tmp_path / "out") == [("1", 2), ("2", 4)]


def test_fail_fast_tells_how_to_go_on(capfd: Output, tmp_path: Path) -> None:
    arguments = ["--fail-fast", "support.mapped:double", "1", "it's", "--output", "out"]
    assert run(*arguments) == 1
    said = capfd.readouterr().err.splitlines()
    command = "offloop map --resume --fail-fast support.mapped:double 1 'it'\"'\"'s' --output out"
    assert said[-1] == f"offloop map: to go on: {command}"
    assert run("--resume", *arguments) == 1
    assert capfd.readouterr().err.splitlines()[-2:] == [
        "offloop map: stopped at the first failure: 1 of 2 inputs done, 1 failed",
        f"offloop map: to go on: {command}",
    ]
    assert records(tmp_path / "out") == [("1", 2)]


def test_an_output_file_that_is_full_is_one_line(capfd: Output) -> None:
    with pytest.raises(UsageError, match="cannot write to /dev/full: No space left on device"):
        run("support.mapped:double", "1", "2", "--output", "/dev/full")


def test_nothing_is_written_before_the_function_is_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no function 'nosuch'"):
        run("support.mapped:nosuch", "1", "--output", "out")
    assert os.listdir(tmp_path) == []


# Progress


def test_progress_in_a_log_is_lines(capfd: Output) -> None:
    assert run("support.mapped:double", "1", "2", "x", "--progress") == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("support.mapped:double: 3 of 3 inputs in 0 s, ")


def test_lines_of_progress_come_now_and_then(capfd: Output) -> None:
    from offloop.cli.screens import INTERVAL, Lines

    now = 0.0
    with Lines("f", 5000, lambda: now) as screen:
        for done in range(4):
            screen(done * 1000)
            now += INTERVAL / 2
    assert capfd.readouterr().err.splitlines() == [
        "f: 2,000 of 5,000 inputs in 5 s, 400.0/s",
        "f: 3,000 of 5,000 inputs in 10 s, 300.0/s",
    ]
