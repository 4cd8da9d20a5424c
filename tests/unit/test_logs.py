"""The parent's queue of log records and warnings."""

from __future__ import annotations

import asyncio
import logging
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from support.bounds import eventually

from offloop.child.records import encode
from offloop.contexts import logs
from offloop.contexts.logs import LogQueue, LogReceiver, handle_record
from offloop.wire.frames import LOG, WARNING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOGGER = logging.getLogger("offloop_test.logs")


class Handler(logging.Handler):
    """Keeps messages, and does what a test wants done at each."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.records: list[logging.LogRecord] = []
        self.act: Callable[[str], object] = lambda text: None

    def handle(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        self.messages.append(record.getMessage())
        self.act(self.messages[-1])
        return True


@pytest.fixture(autouse=True)
def handler() -> Iterator[Handler]:
    """A handler of the test's logger."""
    handler = Handler()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(logging.NOTSET)


def log(text: str, level: int = logging.INFO) -> bytes:
    return encode(logging.LogRecord(LOGGER.name, level, "path.py", 1, text, None, None), 7)


def warning(text: str, *names: str) -> bytes:
    return pickle.dumps((text, list(names), "path.py", 1, "some.module", 7))


def receiver() -> LogReceiver:
    return LogReceiver(LogQueue(asyncio.get_running_loop()), 3)


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes, by the clock of the queue: a busy machine uses up no budget."""
    monkeypatch.setattr(logs, "monotonic", lambda: 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, handler: Handler) -> None:
    """Each record takes a third of the budget, by the clock of the queue."""
    now = 0.0

    def advance(text: str) -> None:
        nonlocal now
        now += logs.BUDGET / 3

    monkeypatch.setattr(logs, "monotonic", lambda: now)
    handler.act = advance


async def test_a_record_is_handled_at_once_and_names_its_worker(handler: Handler) -> None:
    receiver().receive(LOG, log("text"))
    (record,) = handler.records
    assert (record.getMessage(), record.worker_id, record.task_id) == ("text", 3, 7)  # type: ignore[attr-defined]


async def test_a_level_that_the_logger_does_not_want_is_dropped(handler: Handler) -> None:
    receive = receiver().receive
    receive(LOG, log("no", logging.DEBUG))
    receive(LOG, log("yes"))
    assert handler.messages == ["yes"]


@pytest.mark.usefixtures("clock")
async def test_what_exceeds_the_budget_of_a_turn_waits_for_the_next(handler: Handler) -> None:
    receive = receiver().receive
    for number in range(10):
        receive(LOG, log(str(number)))
    handled = [len(handler.messages)]
    while handled[-1] < 10:
        await asyncio.sleep(0)
        handled.append(len(handler.messages))
    assert handled[:4] == [3, 6, 9, 10]
    assert handler.messages == [str(number) for number in range(10)]


@pytest.mark.usefixtures("clock")
async def test_the_budget_is_one_for_all_workers_of_a_pool(handler: Handler) -> None:
    queue = LogQueue(asyncio.get_running_loop())
    for number in range(6):
        LogReceiver(queue, number).receive(LOG, log(str(number)))
    assert len(handler.messages) == 3
    await queue.wait_empty()
    assert handler.messages == list("012345")
    await queue.wait_empty()


@pytest.mark.usefixtures("clock")
async def test_the_budget_is_new_in_each_turn(handler: Handler) -> None:
    receive = receiver().receive
    for expected in range(3, 13, 3):
        for _ in range(3):
            receive(LOG, log("x"))
        assert len(handler.messages) == expected
        await asyncio.sleep(0)


@pytest.mark.usefixtures("clock")
async def test_no_more_than_so_many_wait(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST", 4)
    receive = receiver().receive
    for number in range(20):
        receive(LOG, log(str(number)))
        assert len(handler.messages) >= number + 1 - 4
    await eventually(lambda: len(handler.messages) == 20)
    assert handler.messages == [str(number) for number in range(20)]


async def test_what_comes_while_a_handler_runs_waits_for_its_turn(handler: Handler) -> None:
    receive = receiver().receive
    depth, depths = 0, []

    def again(text: str) -> None:
        nonlocal depth
        depth += 1
        depths.append(depth)
        if len(text) < 5:
            receive(LOG, log(text + "x"))
        depth -= 1

    handler.act = again
    receive(LOG, log(""))
    await eventually(lambda: len(handler.messages) == 6)
    assert handler.messages == ["", "x", "xx", "xxx", "xxxx", "xxxxx"]
    assert set(depths) == {1}


async def test_an_error_of_a_handler_is_told_to_the_loop(handler: Handler) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    receive = receiver().receive

    def fail(text: str) -> None:
        if text == "bad":
            raise ValueError("broken")

    handler.act = fail
    for text in "good", "bad", "fine":
        receive(LOG, log(text))
    receive(LOG, b"no pickle")
    assert handler.messages == ["good", "bad", "fine"]
    assert [type(context["exception"]) for context in told] == [ValueError, pickle.UnpicklingError]


async def test_an_exception_handler_that_fails_as_well_harms_nobody(
    handler: Handler, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("broken too")

    loop = asyncio.get_running_loop()
    loop.call_exception_handler = fail  # type: ignore[method-assign]  # as by a handler on the root logger
    handler.act = fail
    receiver().receive(LOG, log("bad"))
    assert "broken too" in capsys.readouterr().err


def test_an_interrupt_gets_out_of_the_loop_and_nothing_is_lost(handler: Handler) -> None:
    def interrupt(text: str) -> None:
        if text == "bad":
            raise KeyboardInterrupt

    async def main() -> None:
        receive = receiver().receive
        receive(LOG, log("bad"))
        receive(LOG, log("good"))
        await asyncio.sleep(60)

    handler.act = interrupt
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert handler.messages == ["bad", "good"]


async def test_a_warning_is_shown_under_this_process_filters() -> None:
    receive = receiver().receive
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.filterwarnings("ignore", module=r"some\.module", category=BytesWarning)
        receive(WARNING, warning("one", "builtins:UserWarning", "builtins:Warning"))
        receive(WARNING, warning("one", "builtins:UserWarning", "builtins:Warning"))
        receive(WARNING, warning("not shown", "builtins:BytesWarning"))
        receive(WARNING, warning("two", "gone:Unknown", "builtins:FutureWarning"))
        receive(WARNING, warning("three", "gone:Unknown"))
    assert [(str(one.message), one.category) for one in caught] == [
        ("one", UserWarning),
        ("two", FutureWarning),
        ("three", UserWarning),
    ]


async def test_a_warning_that_this_module_gave_itself_is_not_shown_again() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        registry = globals().setdefault("__warningregistry__", {})
        warnings.warn_explicit("here too", UserWarning, __file__, 1, __name__, registry)
        said = pickle.dumps(("here too", ["builtins:UserWarning"], __file__, 1, __name__, None))
        receiver().receive(WARNING, said)
    assert len(caught) == 1


def test_a_records_own_level_name_is_kept(handler: Handler) -> None:
    fields = pickle.loads(log("x", 33))
    handle_record({**fields, "levelname": "SPECIAL"}, 1)
    handle_record({**fields, "worker_id": "inner"}, 1)
    assert [record.levelname for record in handler.records] == ["SPECIAL", "Level 33"]
    assert [record.worker_id for record in handler.records] == [1, "inner"]  # type: ignore[attr-defined]
