"""The ``offloop map`` command with a fake pool: arguments, inputs, functions, output."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import pytest

from offloop.cli import USAGE, main
from offloop.cli.arguments import UsageError, parse
from offloop.cli.bar import Bar
from offloop.cli.run import run_map, to_json
from offloop.cli.target import find_function, one_line

WORK = """
def double(text): return 2 * int(text)
class Tools:
    @staticmethod
    def upper(text): return text.upper()
constant = 3
"""


class FakePool:
    """Runs what it is given in this process; ``held`` submissions end only when released."""

    made: list[FakePool]
    hold = False

    def __init__(self, max_workers: int | None, factory: str) -> None:
        self.asked = max_workers, factory
        self.max_workers = max_workers or 2
        self.timeouts: list[float | None] = []
        self.held: list[Callable[[], None]] = []
        self.left_with: list[type[BaseException] | None] = []
        type(self).made.append(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.left_with.append(kind)

    def options(self, timeout: float | None) -> FakePool:
        self.timeouts.append(timeout)
        return self

    def submit(self, function: Callable[[str], Any], item: str) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()

        def finish() -> None:
            try:
                future.set_result(function(item))
            except Exception as error:
                future.set_exception(error)

        if self.hold:
            self.held.append(finish)
        else:
            finish()
        return future

    async def map(
        self,
        function: Callable[[str], Any],
        items: AsyncIterator[str],
        *,
        timeout: float | None,
        return_exceptions: bool,
        progress: Callable[[int, int | None], None],
    ) -> AsyncIterator[Any]:
        assert return_exceptions
        self.timeouts.append(timeout)
        pulled = [item async for item in items]
        for done, item in enumerate(pulled, 1):
            progress(done, None)
            try:
                yield function(item)
            except Exception as error:
                yield error


@pytest.fixture
def pools() -> type[FakePool]:
    """A fresh kind of fake pool, which remembers the pools that were made."""
    return type("Pools", (FakePool,), {"made": []})


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


def run(pools: type[FakePool], *arguments: str) -> int:
    return run_map(parse(["map", *arguments]), pools)


# Output


def test_results_are_json_lines_in_order(pools: type[FakePool], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pools, "cli_work:double", "3", "1", "2") == 0
    assert capsys.readouterr() == ("6\n2\n4\n", "")


@pytest.mark.parametrize("flags", [[], ["--unordered"]])
def test_a_failure_names_its_input_and_the_others_go_on(
    pools: type[FakePool], capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    status = run(pools, "cli_work:double", "1", "two", "3", *flags)
    out, err = capsys.readouterr()
    assert (status, out) == (1, "2\n6\n")
    assert err == "two: ValueError: invalid literal for int() with base 10: 'two'\n"


def test_unordered_writes_what_ends_first(pools: type[FakePool], capsys: pytest.CaptureFixture[str]) -> None:
    class Backwards(pools):  # type: ignore[valid-type,misc]
        hold = True

        def submit(self, function: Callable[[str], Any], item: str) -> asyncio.Future[Any]:
            future = super().submit(function, item)
            if len(self.held) == 3:
                for finish in reversed(self.held):
                    asyncio.get_running_loop().call_soon(finish)
            return future

    assert run(Backwards, "cli_work:double", "1", "x", "3", "--unordered") == 1
    out, err = capsys.readouterr()
    assert out == "6\n2\n"
    assert err.startswith("x: ValueError")


def test_unordered_takes_no_more_inputs_than_it_has_room_for(pools: type[FakePool], fail_after: Any) -> None:
    taken: list[str] = []

    async def endless() -> AsyncIterator[str]:
        while True:
            taken.append(str(len(taken)))
            yield taken[-1]

    async def scenario() -> None:
        from offloop.cli.run import _unordered

        pool = pools(2, "process")
        pool.hold = True
        async with (
            fail_after(20),
            aclosing(_unordered(pool, int, endless(), None, lambda *_: None)) as outcomes,
        ):  # type: ignore[arg-type]
            first = asyncio.ensure_future(anext(outcomes))
            while len(taken) == len(pool.held):  # until an input is taken and waits for room
                await asyncio.sleep(0)
            assert len(pool.held) == 32
            pool.held[0]()
            assert await first == ("0", 0)

    asyncio.run(scenario())


def test_unordered_reports_inputs_that_break_off(pools: type[FakePool]) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "1"
        raise OSError("the disk is gone")

    async def scenario() -> list[Any]:
        from offloop.cli.run import _unordered

        pool = pools(2, "process")
        return [pair async for pair in _unordered(pool, int, broken(), None, lambda *_: None)]  # type: ignore[arg-type]

    with pytest.raises(OSError, match="the disk is gone"):
        asyncio.run(scenario())


@pytest.mark.parametrize("flags", [[], ["--unordered"]])
def test_a_closed_stdout_ends_the_run_and_leaves_the_pool(
    pools: type[FakePool], monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        run(pools, "cli_work:double", "1", "2", *flags)
    assert pools.made[0].left_with == [BrokenPipeError]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"a": [1, None, "é"]}, '{"a": [1, null, "\\u00e9"]}'),
        ({"when": 1 + 2j}, '{"when": "(1+2j)"}'),
        ({(1, 2): 3}, '"{(1, 2): 3}"'),
        (float("nan"), '"nan"'),
        ("two\nlines", '"two\\nlines"'),
    ],
)
def test_what_json_cannot_express_becomes_its_repr(value: object, line: str) -> None:
    assert to_json(value) == line


def test_values_that_resist_still_make_one_line_of_json() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert json.loads(to_json(cyclic)) == "[[...]]"
    assert "Hostile object at" in json.loads(to_json(Hostile()))


def test_an_error_is_told_on_one_line() -> None:
    assert one_line(ValueError("first\n  second")) == "ValueError: first second"
    assert one_line(KeyError()) == "KeyError"


# Options


def test_options_reach_the_pool(pools: type[FakePool]) -> None:
    assert (
        run(pools, "cli_work:double", "--workers", "3", "--context", "thread", "1", "--timeout", "2.5") == 0
    )
    assert run(pools, "cli_work:double", "1", "--timeout", "4", "--unordered") == 0
    first, second = pools.made
    assert (first.asked, first.timeouts) == ((3, "thread"), [2.5])
    assert (second.asked, second.timeouts) == ((None, "process"), [4.0])


def test_after_two_dashes_everything_is_an_input() -> None:
    options = parse(["map", "--workers", "2", "m:f", "--", "--workers", "-x"])
    assert (options.workers, options.inputs) == (2, ["--workers", "-x"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["fold"], "invalid choice: 'fold'"),
        (["map"], "required: MODULE:FUNCTION (see offloop map --help)"),
        (["map", "m:f", "--workers", "0"], "whole number above 0, not '0'"),
        (["map", "m:f", "--workers", "two"], "whole number above 0, not 'two'"),
        (["map", "m:f", "--timeout", "-1"], "seconds above 0, not '-1'"),
        (["map", "m:f", "--timeout", "nan"], "seconds above 0, not 'nan'"),
        (["map", "m:f", "--context", "ray"], "invalid choice: 'ray'"),
        (["map", "m:f", "--bogus"], "--bogus"),
    ],
)
def test_a_malformed_command_line_is_one_line_and_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    err = capsys.readouterr().err
    assert caught.value.code == 2
    assert words in err
    assert err.count("\n") == 1


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    import offloop

    for arguments, words in (
        (["--version"], f"offloop {offloop.__version__}\n"),
        (["--help"], "offloop map --help"),
        (["map", "--help"], "A value that JSON cannot express"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert words in capsys.readouterr().out


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
        ("..x:f", "cannot import ..x: "),
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
    arguments: list[str], words: str, pools: type[FakePool], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        run(pools, "cli_work:double", *arguments)
    assert words in str(caught.value)
    assert pools.made == []
    assert main(["map", "cli_work:double", *arguments]) == USAGE
    assert capsys.readouterr().err == f"offloop map: {caught.value}\n"


# The bar


def test_the_bar_shows_what_is_done_and_leaves_lines_for_files_to_them() -> None:
    from rich.console import Console

    screen, file = io.StringIO(), io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, _environ={})
    with Bar("cli_work:double", 20, console) as bar:
        bar(7, None)
        bar.write("[1, 2]", file)
    assert file.getvalue() == "[1, 2]\n"
    assert "7/20" in screen.getvalue()
    assert "[1, 2]" not in screen.getvalue()


def test_the_bar_is_silent_without_a_terminal() -> None:
    from rich.console import Console

    screen = io.StringIO()
    with Bar("cli_work:double", 20, Console(file=screen, _environ={})) as bar:
        bar(7, 20)
    assert screen.getvalue() == ""
