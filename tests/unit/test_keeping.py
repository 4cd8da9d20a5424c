"""What the items of a chunk came to, kept as it was then, and put together again in the parent."""

from __future__ import annotations

import asyncio
import copy
import enum
import pickle
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pickling import PicklingTask

from offloop.child.chunk import run_chunk
from offloop.errors import RemoteTraceback, SerializationError, TaskCancelled, TaskFailed


def raise_it(item: Any) -> Any:
    if isinstance(item, BaseException):
        raise item
    return item


@pytest.fixture
def task() -> Iterator[PicklingTask]:
    """The task that runs the chunk."""
    task = PicklingTask()
    with task.running():
        yield task


class Holder(SimpleNamespace):
    """An object of a class of the user's, whose content may change."""


@dataclass
class Row:
    """A row of a table."""

    index: int
    text: str = ""


KEPT: list[Any] = [
    *([], {}, set(), bytearray(1), np.zeros(1), np.zeros(100_000), np.zeros(100_000)[::2]),
    *(Holder(), Row(0)),
]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("holder", KEPT, ids=repr)
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: (1, {"it": value})], ids=["bare", "within"]
)
def test_a_result_is_as_it_was_when_its_item_returned(
    task: PicklingTask, holder: Any, wrap: Callable[[Any], Any], place: int
) -> None:
    again = copy.deepcopy(holder)

    def change(item: int) -> Any:
        if isinstance(again, list | bytearray):
            again.append(item)
        elif isinstance(again, Holder | Row):
            again.index = item
        elif isinstance(again, dict | set):
            again.update({item: item} if isinstance(again, dict) else {item})
        else:
            again[:] = item
        return wrap(again)

    expected = [copy.deepcopy(change(item)) for item in range(4)]
    again = copy.deepcopy(holder)
    _, values, failures = task.arrived(run_chunk(change, range(4)))
    assert failures is None
    assert pickle.dumps(values[place]) == pickle.dumps(expected[place])


@pytest.mark.parametrize("readonly", [False, True])
def test_large_buffers_are_as_they_were_and_may_be_written_as_before(
    task: PicklingTask, readonly: bool
) -> None:
    buffer = np.zeros(100_000)

    def fill(item: int) -> Any:
        buffer[:] = item
        view = buffer[:]
        view.flags.writeable = not readonly
        return view

    _, values, _ = task.arrived(run_chunk(fill, range(3)))
    assert [value[0] for value in values] == [0, 1, 2]
    assert [value.flags.writeable for value in values] == [not readonly] * 3


def test_a_row_whose_attributes_are_changed_later_is_as_it_was(task: PicklingTask) -> None:
    attributes: list[dict[str, Any]] = []

    def make(item: int) -> Row:
        for each in attributes:
            each["index"] = -1
        made = Row(item)
        attributes.append(made.__dict__)
        return made

    assert task.arrived(run_chunk(make, range(3)))[1] == [Row(0), Row(1), Row(2)]


def test_results_of_many_classes_arrive_in_their_places(task: PicklingTask) -> None:
    makers: list[Callable[[int], Any]] = [
        *(lambda item: Row(item), lambda item: [item, [item]], str, lambda item: (item,)),
        *(lambda item: {item}, lambda item: Path(str(item)), lambda item: np.full(3, item), Holder),
        *(lambda item: Row(item, str(item)), lambda item: None, lambda item: np.full(20_000, item)),
    ]

    def make(item: int) -> Any:
        return (
            makers[item % len(makers)](item) if makers[item % len(makers)] is not Holder else Holder(it=item)
        )

    _, values, failures = task.arrived(run_chunk(make, range(44)))
    assert failures is None
    assert list(map(repr, values)) == list(map(repr, map(make, range(44))))


def test_of_settled_results_one_that_cannot_be_pickled_fails_alone(task: PicklingTask) -> None:
    class Heavy:
        lock = threading.Lock()  # by value goes what is defined here, and so this

    def make(item: int) -> Any:
        return [Row(item), Heavy(), Row(item), Heavy(), item][item]

    _, values, failures = task.arrived(run_chunk(make, range(5)))
    assert values == [Row(0), None, Row(2), None, 4]
    assert sorted(failures.errors) == [1, 3]
    assert "Heavy can't be pickled" in str(failures.errors[3])


def test_of_settled_results_those_of_a_class_that_cannot_be_loaded_fail(
    task: PicklingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run_chunk(lambda item: Row(item) if item % 2 else Path(str(item)), range(4))
    outcome = task.sent(outcome)
    monkeypatch.delattr(sys.modules[__name__], "Row")
    _, values, failures = outcome()
    assert values == [Path("0"), None, Path("2"), None]
    assert sorted(failures.errors) == [1, 3]
    assert "Row could not be loaded" in str(failures.errors[1])


def test_of_containers_those_that_cannot_be_loaded_fail_alone(task: PicklingTask) -> None:
    class Odd(enum.Enum):
        ONE = 1
        LOST = 2

        def __reduce_ex__(self, protocol: Any) -> Any:
            return (int, ("no number",)) if self is Odd.LOST else (Odd, (1,))

    def make(item: int) -> Any:
        return [(1, [Odd.ONE]), (1, [Odd.LOST]), (2, [3]), Odd.ONE, Odd.LOST, Odd.ONE, {Odd.LOST}, {4}][item]

    _, values, failures = task.arrived(run_chunk(make, range(8)))
    assert sorted(failures.errors) == [1, 4, 6]
    assert [values[2], values[3].value, values[7]] == [(2, [3]), 1, {4}]


async def test_what_is_awaited_comes_behind_the_last_result(task: PicklingTask) -> None:
    array = np.zeros(100_000)

    async def change(item: int) -> None:
        array[:] = -1

    def make(item: int) -> Any:
        array[:] = item
        return array if item == 3 else change(item)

    assert task.arrived(await run_chunk(make, range(4)))[1][3][0] == 3


def test_a_generator_becomes_a_list(task: PicklingTask) -> None:
    lists = [[], [0], [0, 1], [[2]]]
    made = run_chunk(lambda item: (each for each in lists[item]), range(4))  # type: ignore[attr-defined]
    assert task.arrived(made)[1] == lists


async def test_awaited_results_are_as_they_were_when_they_came(task: PicklingTask) -> None:
    held: list[int] = []

    async def add(item: int) -> list[int]:
        await asyncio.sleep(0)
        held.append(item)
        return held

    async def count(item: int) -> AsyncIterator[list[int]]:
        held.append(item)
        yield held

    assert task.arrived(await run_chunk(add, range(3)))[1] == [[0], [0, 1], [0, 1, 2]]
    held.clear()
    assert task.arrived(await run_chunk(count, range(2)))[1] == [[[0]], [[0, 1]]]


def test_what_two_items_return_is_two_objects(task: PicklingTask) -> None:
    one = [1]
    _, values, _ = task.arrived(run_chunk(lambda _: one, range(2)))
    assert values == [[1], [1]]
    assert values[0] is not values[1]


def test_a_result_that_cannot_be_pickled_or_loaded_fails_alone_and_its_type_is_named(
    task: PicklingTask,
) -> None:
    def give(item: int) -> Any:
        return [item, threading.Lock(), Unloadable(), [item], frozenset({item})][item]

    _, values, failures = task.arrived(run_chunk(give, range(5)))
    assert values == [0, None, None, [3], {4}]
    assert sorted(failures.errors) == [1, 2]
    for index, text in (
        (1, "a result of type _thread.lock can't be pickled"),
        (2, "Unloadable could not be loaded"),
    ):
        assert isinstance(failures.errors[index], SerializationError)
        assert text in str(failures.errors[index])


class Unloadable:
    """Can be pickled, but not loaded."""

    def __reduce__(self) -> Any:
        return raise_it, (OSError("not here"),)


def test_failures_come_with_their_traceback(task: PicklingTask) -> None:
    error = OSError(2, "No such file", "x.png")
    error.add_note("a note")
    _, values, failures = task.arrived(run_chunk(raise_it, ["fine", error]))
    assert values == ["fine", None]
    back = failures.errors[1]
    assert isinstance(back, FileNotFoundError)
    assert back.args == error.args
    assert back.__notes__ == ["a note"]
    assert isinstance(back.__cause__, RemoteTraceback)


def test_a_failure_that_cannot_be_pickled_arrives_as_a_task_that_failed(task: PicklingTask) -> None:
    class Locked(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("cannot pickle")

    back = task.arrived(run_chunk(raise_it, [Locked("shut"), OSError("other")]))[2].errors
    assert isinstance(back[0], TaskFailed)
    assert (back[0].type_name.rpartition(".")[2], back[0].message) == ("Locked", "shut")
    assert isinstance(back[1], OSError)


def test_an_item_that_catches_the_cancellation_is_the_last_one(task: PicklingTask) -> None:
    calls: list[int] = []

    def catch(item: int) -> int:
        calls.append(item)
        if item == 2:
            task.cancellations.add(1)  # and what is raised for it is caught
        return item

    with pytest.raises(TaskCancelled):
        run_chunk(catch, range(10))
    assert calls == [0, 1, 2]
    task.cancellations.clear()
    assert run_chunk(catch, range(3))[1] == [0, 1, 2], "it had nothing more to do"
