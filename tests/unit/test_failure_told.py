"""An exception that cannot come back itself is told of in a TaskFailed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import linecache
import pickle
import sys
import threading
from typing import Any

import pytest
from support.failures import (
    BreaksInDumps,
    BreaksInLoads,
    OwnReduce,
    TwoArguments,
    cross,
    encode,
    explode,
    failed,
    raised,
    with_attribute,
)

from offloop.errors import (
    RemoteTraceback,
    TaskFailed,
)
from offloop.wire.failure import decode_failure, encode_failure


class BreaksInSetState(Exception):
    def __setstate__(self, state: Any) -> None:
        sys.exit(state["code"])


class Transformed(Exception):
    def __init__(self, into: Any) -> None:
        super().__init__("transformed")
        self.into = into

    def __reduce__(self) -> Any:
        return self.into


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (with_attribute(ValueError("locked"), lock=threading.Lock()), "locked"),
        (BreaksInDumps(RuntimeError("no")), "breaks in dumps"),
        (BreaksInDumps(SystemExit(3)), "breaks in dumps"),
        (BreaksInDumps(RecursionError()), "breaks in dumps"),
        (BreaksInLoads(RuntimeError("no")), "breaks in dumps"),
        (BreaksInLoads(SystemExit(3)), "breaks in dumps"),
        (with_attribute(BreaksInSetState("state"), code=1), "state"),
        (Transformed((dict, ())), "transformed"),
        (Transformed((StopIteration, (1,))), "transformed"),
        (Transformed((SystemExit, (1,))), "transformed"),
        (Transformed("no_such_global"), "transformed"),
    ],
)
def test_an_exception_that_cannot_cross_is_told_of(error: BaseException, message: str) -> None:
    back = cross(raised(error))
    assert failed(back).type_name.endswith(type(error).__qualname__)
    assert back.message == message
    assert "in raised" in back.traceback
    assert isinstance(back.__cause__, RemoteTraceback)
    assert "raise error" in back.__cause__.text


def test_an_unpicklable_argument_makes_task_failed_with_plain_pickle_too() -> None:
    failure = encode_failure(raised(ValueError(lambda: 1)), pickle.dumps, pickle.loads)
    assert failed(decode_failure(failure, pickle.loads)).type_name == "ValueError"


def test_arguments_nested_100_000_deep_make_task_failed() -> None:
    back = cross(raised(ValueError(nested(100_000))))
    assert failed(back).type_name == "ValueError"
    assert back.message == "<exception str() failed>"


@pytest.mark.parametrize(
    "what", [ValueError("x"), SystemExit(1), RecursionError(), MemoryError(), GeneratorExit()], ids=repr
)
def test_whatever_loading_raises_in_the_parent_makes_task_failed(what: BaseException) -> None:
    failure = encode(raised(TwoArguments(7, "x")))
    back = decode_failure(failure, lambda data: explode(what))
    assert failed(back).type_name == "support.failures.TwoArguments"
    assert (back.message, str(back)) == ("7: x", "support.failures.TwoArguments: 7: x")
    assert "in raised" in back.traceback
    assert "TwoArguments: 7: x" in back.traceback


def test_ctrl_c_while_loading_in_the_parent_is_let_through() -> None:
    failure = encode(ValueError())
    with pytest.raises(KeyboardInterrupt):
        decode_failure(failure, lambda data: explode(KeyboardInterrupt()))


def test_an_exception_with_code_of_its_own_is_tried_in_the_worker_and_others_are_not() -> None:
    loaded: list[bytes] = []

    def loads(data: bytes) -> object:
        loaded.append(data)
        return pickle.loads(data)

    encode_failure(raised(TwoArguments(1, "x")), pickle.dumps, loads)
    assert loaded == []
    encode_failure(raised(OwnReduce(1, "x")), pickle.dumps, loads)
    assert len(loaded) == 1


class StopMine(StopIteration):
    pass


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (SystemExit(3), "SystemExit", "3"),
        (SystemExit(), "SystemExit", ""),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
        (GeneratorExit(), "GeneratorExit", ""),
        (StopIteration(5), "StopIteration", "5"),
        (StopAsyncIteration(), "StopAsyncIteration", ""),
        (StopMine("s"), f"{__name__}.StopMine", "s"),
        (asyncio.CancelledError("c"), "asyncio.exceptions.CancelledError", "c"),
        (concurrent.futures.CancelledError(), "concurrent.futures._base.CancelledError", ""),
    ],
    ids=repr,
)
def test_control_flow_of_the_task_itself_becomes_task_failed(
    error: BaseException, name: str, message: str
) -> None:
    back = failed(cross(raised(error)))
    assert (back.type_name, back.message) == (name, message)
    assert isinstance(back.__cause__, RemoteTraceback)
    assert "in raised" in back.traceback

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(back)
        with pytest.raises(TaskFailed):
            await future

    asyncio.run(main())


def test_control_flow_as_a_cause_or_member_is_kept() -> None:
    try:
        raise ValueError("x") from SystemExit(3)
    except ValueError as caught:
        back = cross(caught)
    assert repr(back.__cause__.__cause__) == "SystemExit(3)"
    group = cross(raised(BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError(1), StopIteration(2)])))
    assert repr(group.exceptions) == "(KeyboardInterrupt(), ValueError(1), StopIteration(2))"


def test_code_that_only_this_process_has_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["def f():\n", "    return 1 / 0\n"]
    for name in ("<a cell>", "<string>"):
        monkeypatch.setitem(linecache.cache, name, (len("".join(lines)), None, lines, name))
    text = (
        "Traceback (most recent call last):\n"
        '  File "<a cell>", line 2, in f\n'
        '  File "<a cell>", line 3, in beyond\n'
        '  File "/there.py", line 1, in g\n    known there\n'
        '  File "<elsewhere>", line 1, in h\n'
        '  File "<string>", line 2, in k\n'
        "ZeroDivisionError: division by zero"
    )
    remote = RemoteTraceback(text)
    assert remote.text == text
    assert str(remote) == '\n"""\n' + text.replace("in f\n", "in f\n    return 1 / 0\n") + '\n"""'
    assert str(pickle.loads(pickle.dumps(remote))) == str(remote)
