"""A worker's log records as plain data."""

from __future__ import annotations

import collections
import datetime
import enum
import logging
import pickle
import sys
from typing import Any

import pytest

from offloop.child import records
from offloop.child.records import Forwarder, Records, encode, plain
from offloop.wire.frames import LOG


class Colour(enum.IntEnum):
    """Numbers with a class."""

    RED = 1


class Name(enum.StrEnum):
    """Texts with a class."""

    ME = "me"


class Point(collections.namedtuple("Point", "x y")):  # noqa: PYI024
    """A tuple with a class."""


class Mute:
    """Its text can't be had."""

    def __repr__(self) -> str:
        raise ValueError


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def bush(depth: int) -> Any:
    """A list with 2**depth leaves, and no more than depth objects."""
    value: Any = [1]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 1, -(10**30), 2.5, "text", b"bytes", [], (1, [2]), {"a": {1: None, ("b", 2): [b"c"]}}],
    ids=repr,
)
def test_plain_data_stays_what_it_is(value: Any) -> None:
    assert plain(value) == value
    assert type(plain(value)) is type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, 1),
        (Name.ME, "me"),
        (Point(1, 2), "Point(x=1, y=2)"),
        (datetime.date(2020, 1, 2), "datetime.date(2020, 1, 2)"),
        ({1}, "{1}"),
        (bytearray(b"x"), "bytearray(b'x')"),
        ([Colour.RED, {Name.ME: {2}}], [1, {"me": "{2}"}]),
        (Mute(), "<Mute>"),
        ((Mute(), 1), ("<Mute>", 1)),
        (list(range(20_000)), "<list>"),
    ],
    ids=lambda value: str(type(value)),
)
def test_what_is_not_plain_becomes_text(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


def test_what_is_nested_deeply_is_cut_off() -> None:
    assert "<list>" in repr(plain(nested(100_000)))
    assert len(repr(plain(bush(1000)))) < 1_000_000
    recursive: list[Any] = []
    recursive.append(recursive)
    assert "<list>" in repr(plain(recursive))


def decoded(record: logging.LogRecord, task_id: int | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = pickle.loads(encode(record, task_id))
    return fields


def make(message: Any = "text", *args: Any, **more: Any) -> logging.LogRecord:
    record = logging.LogRecord("name", logging.INFO, "path.py", 7, message, args, None, "func")
    record.__dict__.update(more)
    return record


def test_arguments_are_in_the_message_and_never_looked_at_otherwise() -> None:
    class Costly:
        def __str__(self) -> str:
            return "cheap"

        def __repr__(self) -> str:
            raise AssertionError("asked for")

    fields = decoded(make("%s!", Costly()))
    assert (fields["msg"], fields["args"]) == ("cheap!", None)
    assert decoded(make(Costly()))["msg"] == "cheap"


def test_an_exception_is_a_text_beside_the_message() -> None:
    try:
        raise KeyError("missing")
    except KeyError:
        fields = decoded(make("failed", exc_info=sys.exc_info()))
    assert (fields["msg"], fields["exc_info"]) == ("failed", None)
    assert fields["exc_text"].startswith("Traceback")
    assert fields["exc_text"].endswith("KeyError: 'missing'")


def test_an_exception_that_was_formatted_before_is_not_formatted_again() -> None:
    assert decoded(make(exc_text="as it was", exc_info=(1, 2, 3)))["exc_text"] == "as it was"


def test_the_worker_that_made_a_record_stays_in_it() -> None:
    record = make(taskName="Task-1")
    fields = decoded(record, 5)
    kept = "process processName thread threadName created levelno pathname lineno funcName taskName".split()
    assert {name: fields[name] for name in kept} == {name: record.__dict__[name] for name in kept}
    assert fields["task_id"] == 5


def test_the_record_itself_is_left_alone() -> None:
    record = make("%s", [1], given={2})
    before = dict(record.__dict__)
    encode(record, 5)
    assert record.__dict__ == before


def test_what_another_formatter_left_does_not_travel() -> None:
    assert not {"message", "asctime"} & set(decoded(make(message="old", asctime="then")))


def test_ids_of_its_own_are_kept() -> None:
    assert decoded(make(task_id="mine"), 5)["task_id"] == "mine"


def test_a_large_record_loses_what_is_not_of_the_essence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD", 2000)
    monkeypatch.setattr(records, "MAX_TEXT", 100)
    record = make("m" * 150, stack_info="s" * 3000, given=b"g" * 3000)
    data = encode(record, 5)
    fields = pickle.loads(data)
    assert len(data) <= 2000
    assert fields["msg"] == "m" * 100 + "... (50 more characters)"
    assert fields["stack_info"].startswith("s" * 100 + "...")
    assert "given" not in fields
    assert fields["task_id"] == 5


class Sent:
    """What a forwarder sends."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def __call__(self, kind: int, payload: bytes) -> None:
        assert kind == LOG
        self.records.append(pickle.loads(payload))


def test_a_filter_of_the_handler_is_heeded() -> None:
    sent = Sent()
    handler = Forwarder(sent, lambda: None)
    handler.addFilter(lambda record: record.msg != "no")
    for text in "yes", "no":
        handler.handle(make(text))
    assert [fields["msg"] for fields in sent.records] == ["yes"]


@pytest.mark.parametrize("without_stderr", [False, True])
def test_what_goes_wrong_is_complained_about_and_not_raised(
    without_stderr: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(kind: int, payload: bytes) -> None:
        raise OSError("gone")

    class Broken:
        def write(self, text: str) -> None:
            raise ValueError("closed")

    if without_stderr:
        monkeypatch.setattr(sys, "stderr", Broken())
    Forwarder(fail, lambda: None).handle(make())
    assert ("OSError: gone" in capsys.readouterr().err) is not without_stderr


def test_only_levels_that_changed_in_the_parent_are_set() -> None:
    names = ["told.a", "told.b", "told.c"]
    a, b, c = (logging.getLogger(name) for name in names)
    root = logging.root.level
    told = Records(Sent(), lambda: None)
    try:
        told.apply({"levels": {"root": root, "told.a": 10, "told.b": 20}, "disabled": 0})
        assert (a.level, b.level, c.level) == (10, 20, 0)
        a.setLevel(5)
        c.setLevel(5)
        told.apply({"levels": {"root": root, "told.a": 10, "told.b": 30}, "disabled": 0})
        assert (a.level, b.level, c.level) == (5, 30, 5)
        told.apply({"levels": {"root": root}, "disabled": 15})
        assert (a.level, b.level, c.level) == (0, 0, 5)
        assert logging.root.manager.disable == 15
    finally:
        told.apply({"levels": {"root": root}, "disabled": 0})
        told.let_go()
        c.setLevel(0)
    assert not any(isinstance(handler, Forwarder) for handler in logging.root.handlers)
