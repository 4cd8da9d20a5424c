"""Results as JSON, and inputs from it."""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offloop import Task
from offloop.cli.calls import FromJson, call_of
from offloop.cli.jsontext import to_json


@dataclass
class Point:
    x: int
    where: Path = field(default_factory=lambda: Path("a/b"))


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"a": [1, None, "é"]}, '{"a": [1, null, "\\u00e9"]}'),
        ({"when": 1 + 2j}, '{"when": "(1+2j)"}'),
        ({(1, 2): 3}, '{"(1, 2)": 3}'),
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
    assert json.loads(to_json({"a": 1, "b": cyclic})) == {"a": 1, "b": ["[[...]]"]}
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "object at" in json.loads(to_json([deep, 1]))
    assert "Hostile object at" in json.loads(to_json(Hostile()))

    class Closed(dict[str, int]):
        def items(self) -> Any:
            raise ValueError

    assert json.loads(to_json(Closed(a=1))) == "{'a': 1}"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(3), {"x": 3, "where": "a/b"}),
        ([np.int64(3), np.float32(0.5), np.bool_(True)], [3, 0.5, True]),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        ({7}, [7]),
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Point, repr(Point)),
        (b"\x00", "b'\\x00'"),
    ],
)
def test_common_values_become_what_is_nearest_in_json(value: object, plain: object) -> None:
    assert json.loads(to_json({"value": value})) == {"value": plain}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ([Point(3), np.arange(2), {7}], [{"x": 3, "where": "a/b"}, [0, 1], [7]]),
        ([-math.inf, np.float64("inf"), np.float32("nan"), 0.5], ["-inf", "inf", "nan", 0.5]),
        (np.array([1.5, math.nan]), [1.5, "nan"]),
        ({np.int64(3): 4, np.bool_(True): 5}, {"3": 4, "true": 5}),
        ({datetime.date(2026, 1, 2): 3, np.datetime64("2026-01-03"): 4}, {"2026-01-02": 3, "2026-01-03": 4}),
        ({Path("a"): {b"b": 1}, None: 2, 1.5: 3}, {"a": {"b'b'": 1}, "null": 2, "1.5": 3}),
        ({(1, 2): 2, frozenset([1]): 3}, {"(1, 2)": 2, "frozenset({1})": 3}),
    ],
)
def test_what_json_cannot_express_is_replaced_in_its_own_place(value: object, plain: object) -> None:
    assert json.loads(to_json({"value": value, "bad": math.nan})) == {"value": plain, "bad": "nan"}


@pytest.mark.parametrize(
    "value",
    [
        {math.nan: 1, float("nan"): 2},
        {"(1, 2)": 1, (1, 2): 2},
        {"a": 1, Path("a"): 2},
        {1: math.nan, "1": 2},
        {None: math.nan, "null": 2},
        {True: math.nan, "true": 2},
    ],
)
def test_a_dict_of_which_two_keys_would_become_one_is_its_repr(value: object) -> None:
    assert json.loads(to_json([value, math.nan])) == [repr(value), "nan"]


def test_an_integer_too_long_for_decimal_digits_is_one_of_hexadecimal_ones() -> None:
    assert json.loads(to_json([1, 1 << 20_000])) == [1, hex(1 << 20_000)]


def test_what_is_there_twice_is_no_cycle() -> None:
    twice = [math.nan]
    assert json.loads(to_json([twice, twice, {"a": twice}])) == [["nan"], ["nan"], {"a": ["nan"]}]


def test_an_objects_fields_become_keyword_arguments_and_any_other_value_the_argument() -> None:
    def show(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    call = call_of(show, is_json=True)
    assert call('{"a": 1, "b": {"c": 2}}') == ((), {"a": 1, "b": {"c": 2}})
    assert call("[1, 2]") == (([1, 2],), {})
    assert call(' "text" ') == (("text",), {})
    assert call("{}") == ((), {})
    assert call_of(show, is_json=False)("{}") == (("{}",), {})


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "NaN", '{"a": -Infinity}', "1 2"])
def test_what_is_no_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|is not JSON|Extra data"):
        FromJson(print)(text)


class Double(Task[int]):
    def __init__(self, number: str | int) -> None:
        self.number = int(number)

    def run(self, environment: Any) -> int:
        return 2 * self.number


class Triple:
    """A task that does not derive from `Task`."""

    def __init__(self, number: str | int) -> None:
        self.number = int(number)

    def run(self, environment: Any) -> int:
        return 3 * self.number


async def test_a_class_of_tasks_is_made_and_run() -> None:
    from offloop import WorkerPool
    from offloop.testing import InlineWorkerFactory

    async with WorkerPool(1, factory=InlineWorkerFactory()) as pool:
        assert await pool.submit(call_of(Double, is_json=False), "4") == 8
        assert await pool.submit(call_of(Double, is_json=True), '{"number": 5}') == 10
        assert await pool.submit(call_of(Triple, is_json=False), "4") == 12
    assert repr(call_of(Double, is_json=True)) == "Double"
