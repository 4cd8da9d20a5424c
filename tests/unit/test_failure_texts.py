"""The traceback's text that an exception brings from its worker."""

from __future__ import annotations

import collections
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from support.failures import (
    chained,
    cross,
    encode,
    explode,
    explode_on_load,
    failed,
    printed,
    raised,
    with_attribute,
)

import offloop
from offloop.environment import LocalEnvironment
from offloop.task import CallableTask
from offloop.wire import tracebacks
from offloop.wire.failure import decode_failure, encode_failure
from offloop.wire.tracebacks import MAX_TEXT


def test_the_text_reads_as_the_traceback_module_writes_it() -> None:
    def divide(a: int, b: int) -> float:
        return (a + 1) / b

    try:
        divide(1, 0)
    except ZeroDivisionError as caught:
        caught.add_note("while dividing")
        error, expected = caught, traceback.format_exc()
    assert cross(error).__cause__.text == expected
    assert "^" in expected


@pytest.mark.parametrize("code", ["lenn", "''.joim", "from json import lods", "(1", "1/0", "{}[3]"])
def test_hints_and_syntax_errors_read_as_the_traceback_module_writes_them(code: str) -> None:
    try:
        exec(code, {})
    except Exception as caught:
        error, expected = caught, traceback.format_exc()
    assert cross(error).__cause__.text == expected


def test_what_fails_again_and_again_reads_so_each_time(tmp_path: Path) -> None:
    path = tmp_path / "failing.py"
    texts = set()
    for name in ("first", "other"):  # the same place, in a file that was edited meanwhile
        path.write_text(f"def fail(value):\n    {name} = value; raise ValueError({name})\n")
        namespace: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), namespace)
        callers = [lambda value, fail=namespace["fail"]: fail(value), namespace["fail"]]
        for caller in callers:
            for value in ("one", "two"):
                try:
                    caller(value)
                except ValueError as caught:
                    error, expected = caught, traceback.format_exc()
                text = cross(error).__cause__.text
                assert text == expected
                texts.add(text)
    assert len(texts) == 8


def test_thousands_of_places_that_fail_are_not_all_kept() -> None:
    for count in range(3 * tracebacks._REMEMBERED):
        namespace: dict[str, Any] = {}
        exec(compile("\n" * count + "def fail(): raise ValueError", "<made>", "exec"), namespace)
        try:
            namespace["fail"]()
        except ValueError as caught:
            error, expected = caught, traceback.format_exc()
        assert cross(error).__cause__.text == expected
    assert len(tracebacks._formatted_before) <= tracebacks._REMEMBERED


def test_offloops_own_frames_are_left_out() -> None:
    try:
        CallableTask(explode, ValueError("x")).run(LocalEnvironment())
    except ValueError as caught:
        error = caught
    package = str(Path(offloop.__file__).parent)
    assert package in printed(error)
    text = cross(error).__cause__.text
    assert package not in text
    assert text.startswith("Traceback (most recent call last):\n")
    assert "in test_offloops_own_frames" in text
    assert "in explode" in text


class Hostile(Exception):
    def __init__(self, what: BaseException) -> None:
        self.what = what

    def __str__(self) -> str:
        raise self.what

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        raise self.what


@pytest.mark.parametrize(
    "what", [ValueError(), SystemExit(), RecursionError(), KeyboardInterrupt()], ids=repr
)
def test_a_hostile_exception_is_formatted_all_the_same(what: BaseException) -> None:
    error = raised(Hostile(what))
    back = cross(error)
    assert type(back) is Hostile
    assert "Hostile: <exception str() failed>" in back.__cause__.text
    told = failed(decode_failure(encode(error), explode_on_load))
    assert told.message == "<exception str() failed>"


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in {"__module__", "__qualname__", "__name__"}:
            raise SystemExit("hostile class")
        return super().__getattribute__(name)


def test_a_hostile_class_is_contained() -> None:
    error = raised(Meta("Odd", (Exception,), {})("x"))
    assert "Odd" in failed(cross(error)).type_name


class Overriding(Exception):
    __cause__ = property(lambda self: explode(SystemExit()))  # type: ignore[assignment]
    __context__ = __traceback__ = __dict__ = args = __cause__  # type: ignore[assignment]

    def __setattr__(self, name: str, value: object) -> None:
        raise SystemExit


def test_overridden_internals_are_gone_past() -> None:
    back = decode_failure(encode_failure(raised(Overriding("x")), pickle.dumps, pickle.loads), pickle.loads)
    assert type(back) is Overriding
    assert BaseException.__cause__.__get__(back).text.endswith("Overriding: x\n")  # type: ignore[union-attr]


class TextOfMine(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise SystemExit


class OddText(Exception):
    def __str__(self) -> str:
        return TextOfMine("odd")


def test_a_failure_consists_of_plain_values_only() -> None:
    error = raised(OddText())
    error.add_note(TextOfMine("note"))
    group = raised(ExceptionGroup("g", [error, with_attribute(KeyError(), lock=threading.Lock())]))  # type: ignore[list-item]
    queue: collections.deque[Any] = collections.deque([encode(group)])
    while queue:
        value = queue.popleft()
        assert type(value) in {tuple, str, bytes, int, bool, type(None)}
        if type(value) is tuple:
            queue.extend(value)


def test_a_long_message_is_cut_in_the_texts_and_whole_in_the_exception() -> None:
    error = raised(ValueError("a" + "x" * 3 * MAX_TEXT + "z"))
    back = cross(error)
    assert len(back.args[0]) == 3 * MAX_TEXT + 2
    text = back.__cause__.text
    assert MAX_TEXT < len(text) < 1.2 * MAX_TEXT
    assert "characters left out" in text
    assert text.endswith("xz\n")
    assert len(failed(decode_failure(encode(error), explode_on_load)).traceback) < 1.2 * MAX_TEXT


def ping(depth: int) -> None:
    return pong(depth - 1) if depth else explode(ValueError("deep"))


def pong(depth: int) -> None:
    return ping(depth - 1) if depth else explode(ValueError("deep"))


def single(depth: int) -> None:
    return single(depth - 1) if depth else explode(ValueError("deep"))


@pytest.mark.parametrize(("fn", "mark"), [(ping, "characters left out"), (single, "frames left out")])
def test_a_deep_stack_is_cut_in_its_middle(fn: Callable[[int], None], mark: str) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        fn(5_000)
    except ValueError as caught:
        error = caught
    finally:
        sys.setrecursionlimit(limit)
    text = cross(error).__cause__.text
    assert mark in text
    assert "in test_a_deep_stack" in text
    assert "in explode" in text
    assert len(text) < 1.2 * MAX_TEXT


def test_a_recursion_error_is_told_with_its_repeated_lines_folded() -> None:
    def again() -> None:
        again()

    try:
        again()
    except RecursionError as caught:
        error = caught
    back = cross(error)
    assert type(back) is RecursionError
    assert "[Previous line repeated" in back.__cause__.text
    assert len(back.__cause__.text) < 5_000


def test_a_long_chain_behind_the_exception_is_not_formatted_with_it() -> None:
    error: BaseException = with_attribute(ValueError("outer"), lock=threading.Lock())
    error.__context__ = raised(KeyError("behind"))
    assert "behind" not in cross(error).__cause__.text
    assert "behind" in cross(error).traceback


def test_the_texts_keep_no_frame_alive() -> None:
    back = cross(chained(how="cause"))
    seen: list[TracebackType | None] = []
    error: BaseException | None = back
    while error is not None:
        seen.append(error.__traceback__)
        error = error.__cause__
    assert seen == [None] * 4


def test_importing_and_encoding_stay_light() -> None:
    script = """
import sys
import offloop.wire.failure as failure
heavy = {"asyncio", "traceback", "inspect", "dataclasses", "logging", "cloudpickle", "concurrent.futures"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import pickle
failure.decode_failure(failure.encode_failure(ValueError(1), pickle.dumps, pickle.loads), pickle.loads)
drawn_in = {"traceback", *(["dataclasses", "inspect"] if sys.version_info >= (3, 14) else [])}
assert not (heavy - drawn_in) & set(sys.modules), heavy & set(sys.modules)
"""
    path = str(Path(offloop.__file__).parent.parent)
    subprocess.run([sys.executable, "-S", "-c", script], check=True, env={"PYTHONPATH": path}, timeout=60)


def text_of(fn: Callable[[], object]) -> str:
    """The text of what a call raises."""
    try:
        fn()
    except Exception as error:
        return tracebacks.own_text(error, type(error).__name__, str(error))[0]
    raise AssertionError("it raises nothing")


def test_a_stack_that_was_formatted_before_is_told_with_the_message_of_its_own_exception() -> None:
    def fail(number: int) -> None:
        raise ValueError(f"number {number}")

    texts = [text_of(lambda number=number: fail(number)) for number in range(3)]  # type: ignore[misc]
    assert [text.replace(f"number {number}", "number 0") for number, text in enumerate(texts)] == [
        texts[0]
    ] * 3
    assert "number 2" in texts[2]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`traceback` has none")
def test_a_wrong_name_has_a_suggestion_each_time() -> None:
    def fail() -> None:
        number = 1
        print(nunber)  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
        del number

    texts = [text_of(fail) for _ in range(2)]
    assert texts[0] == texts[1]
    assert "Did you mean: 'number'?" in texts[0]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="`traceback` suggests no such names")
def test_a_wrong_attribute_has_a_suggestion_that_needs_the_frames() -> None:
    class Holder:
        _value = 1

        def fail(self) -> object:
            return self.value  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

    assert "Did you mean: '_value'?" in text_of(Holder().fail)
