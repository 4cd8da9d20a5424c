"""The ``offloop`` command line: options, the function that is named, inputs that are not there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offloop import WorkerPool
from offloop.cli import USAGE, main
from offloop.cli.arguments import UsageError
from offloop.cli.commands import COMMANDS, load
from offloop.cli.commands.map import parse
from offloop.cli.failures import failure_text, one_line
from offloop.cli.run import run_map
from offloop.cli.target import find_function
from offloop.testing import InlineWorkerFactory

WORK = """
def double(text): return 2 * int(text)
class Tools:
    @staticmethod
    def upper(text): return text.upper()
constant = 3
"""


class Pools:
    """Makes pools whose workers run in this process, and remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int | None, str]] = []

    def __call__(self, max_workers: int | None, factory: str) -> WorkerPool:
        self.asked.append((max_workers, factory))
        return WorkerPool(1, factory=InlineWorkerFactory())


@pytest.fixture
def pools() -> Pools:
    return Pools()


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's module in the current directory; what is imported is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    path = tmp_path / "cli_work.py"
    path.write_text(WORK)
    yield path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def run(pools: Pools, *arguments: str) -> int:
    return run_map(parse(arguments), pools)


def test_an_error_is_told_on_one_line() -> None:
    assert one_line(ValueError("first\n  second")) == "ValueError: first second"
    assert one_line(KeyError()) == "KeyError"


def test_nothing_that_is_told_of_a_failure_reaches_the_terminal_as_a_command() -> None:
    hostile = "a\x1b[2J\x9b\x07b\udcff"
    escaped = r"a\x1b[2J\x9b\x07b\udcff"
    assert one_line(ValueError(hostile)) == f"ValueError: {escaped}"
    first, *lines = failure_text(hostile, ValueError(f"{hostile}\n{hostile}"), with_traceback=True).split(
        "\n"
    )
    assert first == f"{escaped}: ValueError: {escaped} {escaped}"
    assert lines == [f"ValueError: {escaped}", escaped]


# Options


def test_options_reach_the_pool(pools: Pools) -> None:
    assert run(pools, "cli_work:double", "--workers", "3", "--context", "thread", "1") == 0
    assert run(pools, "cli_work:double", "1") == 0
    assert pools.asked == [(3, "thread"), (None, "process")]


def test_negative_numbers_are_inputs_and_values() -> None:
    options = parse(["m:f", "-1", "-0", "-2.5", "--", "-0"])
    assert (options.null, options.inputs) == (True, ["-1", "-2.5", "-0"])


def test_after_two_dashes_everything_is_an_input() -> None:
    options = parse(["--workers", "2", "m:f", "--", "--workers", "-x"])
    assert (options.workers, options.inputs) == (2, ["--workers", "-x"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["fold"], "invalid choice: 'fold'"),
        (["map"], "required: MODULE:FUNCTION (see offloop map --help)"),
        (["map", "m:f", "--workers", "0"], "whole number above 0, not '0'"),
        (["map", "m:f", "--workers", "two"], "whole number above 0, not 'two'"),
        (["map", "m:f", "--retries", "-1"], "whole number, 0 or more, not '-1'"),
        (["map", "m:f", "--fail-fast", "--keep-going"], "not allowed with argument"),
        (["map", "m:f", "--resume"], "--resume needs --output FILE"),
        (["map", "m:f", "--unord"], "--unord"),
        (["map", "m:f", "--timeout", "-1"], "seconds above 0, not '-1'"),
        (["map", "m:f", "--timeout", "nan"], "seconds above 0, not 'nan'"),
        (["map", "m:f", "--context", "ray"], "invalid choice: 'ray'"),
        (["map", "m:f", "--bogus"], "--bogus"),
    ],
)
def test_a_malformed_command_line_is_one_line_and_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    err = capsys.readouterr().err
    assert status == 2
    assert words in err
    assert err.count("\n") == 1


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    import offloop

    for arguments, words in (
        (["--version"], f"offloop {offloop.__version__}\n"),
        (["--help"], "offloop COMMAND --help"),
        (["map", "--help"], "A value that JSON cannot express"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: offloop {name} ")
    assert load(name).parser().prog == f"offloop {name}"


# The function


def test_a_function_of_a_module_in_the_current_directory() -> None:
    assert find_function("cli_work:double")("4") == 8
    assert find_function("cli_work:Tools.upper")("a") == "A"
    assert sys.path[0] == os.getcwd()


def test_a_function_in_a_file_elsewhere(work: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    work.rename(tmp_path / "deep" / "cli_deep.py")
    assert find_function("./deep/cli_deep.py:double")("4") == 8
    assert sys.path[0] == str(tmp_path / "deep")


async def test_a_function_in_a_file_whose_name_has_a_dot(work: Path, tmp_path: Path) -> None:
    work.rename(tmp_path / "work-v1.2.py")
    double = find_function("./work-v1.2.py:double")
    async with WorkerPool(1) as pool:
        assert await pool.submit(double, "4") == 8


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("cli_work", "'cli_work' is not of the form MODULE:FUNCTION"),
        (":double", "not of the form"),
        ("cli_work:", "not of the form"),
        ("cli_missing:f", "cannot import cli_missing: ModuleNotFoundError"),
        ("cli_broken:f", "cannot import cli_broken: ZeroDivisionError: division by zero"),
        ("cli_broken:f", "cli_broken.py, line 2)"),
        ("cli_exits:f", "cannot import cli_exits: SystemExit: 7"),
        ("cli_invalid:f", "cannot import cli_invalid: SyntaxError"),
        ("..x:f", "'..x' is neither the name of a module nor the path of a .py file"),
        ("./cli_work:double", "is neither the name of a module nor the path of a .py file"),
        ("cli_work:triple", "cli_work has no function 'triple'"),
        ("cli_work:constant", "cli_work:constant is not a function but of type int"),
        ("./nowhere.py:f", "no such file: nowhere.py"),
        ("./json.py:f", "the name 'json' means"),
    ],
)
def test_a_function_that_is_not_there_is_one_line_and_status_2(
    target: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cli_broken.py").write_text("\n1 / 0\n")
    (tmp_path / "cli_exits.py").write_text("raise SystemExit(7)\n")
    (tmp_path / "cli_invalid.py").write_text("def\n")
    (tmp_path / "json.py").write_text("f = 1\n")
    assert main(["map", target, "1"]) == USAGE
    out, err = capsys.readouterr()
    assert words in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_current_folder_that_was_deleted_is_one_line_and_status_2(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["map", "builtins:len", "abc"]) == USAGE
    assert capsys.readouterr() == (
        "",
        "offloop map: the current folder cannot be found: No such file or directory\n",
    )


# The inputs (see test_cli_inputs.py for how they are read)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["@missing"], "cannot read the inputs in 'missing': No such file"),
        (["@."], "cannot read the inputs in '.': Is a directory"),
        (["-", "a", "-"], "standard input (-) can be read only once"),
    ],
)
def test_inputs_that_cannot_be_read_are_told_before_anything_runs(
    arguments: list[str], words: str, pools: Pools, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        run(pools, "cli_work:double", *arguments)
    assert words in str(caught.value)
    assert pools.asked == []
    assert main(["map", "cli_work:double", *arguments]) == USAGE
    assert capsys.readouterr().err == f"offloop map: {caught.value}\n"
