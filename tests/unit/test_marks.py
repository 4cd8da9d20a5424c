"""Marking the records of tasks in threads of this process."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from offloop.contexts.marks import MarkingFactory, mark_records
from offloop.task import provider

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGER = logging.getLogger("offloop_test.marks")


@pytest.fixture(autouse=True)
def records() -> Iterator[list[logging.LogRecord]]:
    """What was logged; the factory of records is a plain one at the start."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    found: list[logging.LogRecord] = []
    before, handler = logging.getLogRecordFactory(), Keep()
    logging.setLogRecordFactory(logging.LogRecord)
    LOGGER.addHandler(handler)
    yield found
    LOGGER.removeHandler(handler)
    logging.setLogRecordFactory(before)


@pytest.fixture
def task() -> Iterator[None]:
    """The test is a running task."""
    context: Any = SimpleNamespace(worker_id=1, task_id=2)
    token = provider.set(lambda: context)
    yield
    provider.reset(token)


def ids(record: logging.LogRecord) -> tuple[Any, Any]:
    return getattr(record, "worker_id", None), getattr(record, "task_id", None)


def test_a_record_outside_a_task_is_left_alone(records: list[logging.LogRecord]) -> None:
    mark_records()
    LOGGER.warning("text")
    assert not {"worker_id", "task_id"} & set(records[0].__dict__)


@pytest.mark.usefixtures("task")
def test_a_record_of_a_task_is_marked(records: list[logging.LogRecord]) -> None:
    mark_records()
    LOGGER.warning("text")
    assert ids(records[0]) == (1, 2)


@pytest.mark.usefixtures("task")
def test_the_factory_that_was_there_still_makes_the_record(records: list[logging.LogRecord]) -> None:
    class Own(logging.LogRecord):
        pass

    logging.setLogRecordFactory(Own)
    mark_records()
    LOGGER.warning("text")
    assert type(records[0]) is Own
    assert ids(records[0]) == (1, 2)


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize("wrapped", [False, True])
def test_attributes_that_the_program_gives_win(records: list[logging.LogRecord], wrapped: bool) -> None:
    mark_records()
    if wrapped:
        inner = logging.getLogRecordFactory()
        logging.setLogRecordFactory(lambda *args, **kwargs: inner(*args, **kwargs))
    LOGGER.warning("text", extra={"task_id": "mine"})
    LOGGER.warning("text", extra={"other": 1})
    assert [ids(record) for record in records] == [(1, "mine"), (1, 2)]


def test_it_is_done_once() -> None:
    mark_records()
    first = logging.getLogRecordFactory()
    mark_records()
    assert logging.getLogRecordFactory() is first
    assert isinstance(first, MarkingFactory)


def test_a_record_made_by_hand_is_marked_too() -> None:
    context: Any = SimpleNamespace(worker_id=1, task_id=2)
    mark_records()
    token = provider.set(lambda: context)
    try:
        assert ids(logging.makeLogRecord({"msg": "x"})) == (1, 2)
    finally:
        provider.reset(token)
