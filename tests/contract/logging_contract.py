"""What workers log and warn of reaches the parent's handlers."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from support import speaking, tasks
from support.bounds import eventually
from support.gates import Gate, Mailbox

from contract.base import Context
from offloop import WorkerCrashed
from offloop.contexts import logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


class Seen(logging.Handler):
    """Keeps every record."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        """What was logged, in order."""
        return [record.getMessage() for record in self.records]


class Blocked(logging.Handler):
    """Blocks at its first record, and so the event loop, until a task tells that it went on."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._path = mailbox.path
        self.was_released = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.was_released:
            fd = os.open(self._path, os.O_RDONLY)
            try:
                self.was_released = os.read(fd, 100) == b"went on\n"
            finally:
                os.close(fd)


@contextmanager
def blocking(seen: Seen, mailbox: Mailbox) -> Iterator[Blocked]:
    """Have a handler block the event loop beside the one that sees everything."""
    logger, handler = logging.getLogger(speaking.NAME), Blocked(mailbox)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def hear(told: list[dict[str, Any]]) -> None:
    """Keep what the running loop's exception handler is told."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))


class LoggingContext(Context):
    """A context with a handler of everything that tasks log."""

    @pytest.fixture
    def seen(self) -> Iterator[Seen]:
        """That handler."""
        logger, handler = logging.getLogger(speaking.NAME), Seen()
        logger.addHandler(handler)
        logger.setLevel(INFO)
        yield handler
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    @pytest.fixture
    def told(self) -> list[dict[str, Any]]:
        """What the event loop's exception handler is told, from `hear` on."""
        return []


class LoggingContract(LoggingContext):
    """What holds wherever a task runs."""

    async def test_a_record_has_message_level_name_and_place(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.say, WARNING, "%s and %d", "text", 7, name="inner")
        (record,) = seen.records
        assert (record.name, record.levelno, record.getMessage()) == ("spoken.inner", WARNING, "text and 7")
        assert (record.funcName, record.filename) == ("say", "speaking.py")

    async def test_an_exception_comes_as_its_traceback(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.say_failure, "no good")
        (record,) = seen.records
        text = logging.Formatter("%(message)s").format(record)
        assert text.startswith("it failed\nTraceback")
        assert "ValueError: no good" in text
        assert "say_failure" in (record.stack_info or "")

    async def test_plain_extra_attributes_are_kept(self, seen: Seen) -> None:
        extra = {"who": "me", "size": [1, 2.5, {"a": (None, b"x")}], "worker_id": "mine", "task_id": "too"}
        async with self.worker() as worker:
            await worker.submit(speaking.say, INFO, "with extra", extra=extra)
        (record,) = seen.records
        assert {name: getattr(record, name) for name in extra} == extra

    async def test_a_record_names_its_worker_and_task(self, seen: Seen) -> None:
        async with self.pool(2) as pool:
            executions = [pool.submit(speaking.say, INFO, str(number)) for number in range(6)]
            ids = await asyncio.gather(*executions)
        made_by = {record.getMessage(): (record.worker_id, record.task_id) for record in seen.records}  # type: ignore[attr-defined]
        expected = {str(n): (e.worker_id, id) for n, (e, id) in enumerate(zip(executions, ids, strict=True))}
        assert made_by == expected

    async def test_overlapping_async_tasks_are_told_apart(self, seen: Seen, gate: Gate) -> None:
        async with self.worker(concurrency=2) as worker:
            both = [worker.submit(speaking.say_twice, gate.path, name) for name in "ab"]
            await gate.arrived(2)
            gate.open()
            a, b = await asyncio.gather(*both)
        made_by = {record.getMessage(): record.task_id for record in seen.records}  # type: ignore[attr-defined]
        assert made_by == {"a before": a, "a after": a, "b before": b, "b after": b}

    async def test_a_thread_that_a_task_starts_logs_for_it_only_where_it_inherits_the_context(
        self, seen: Seen
    ) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.say_in_thread)
        (record,) = seen.records
        assert (record.getMessage(), record.threadName) == ("from a thread", "aside")
        inherits = bool(getattr(sys.flags, "thread_inherit_context", False))
        assert (getattr(record, "task_id", None) is not None) == inherits

    async def test_a_thread_with_the_tasks_context_logs_for_it(self, seen: Seen) -> None:
        async with self.worker() as worker:
            id = await worker.submit(speaking.say_in_worker_thread)
        (record,) = seen.records
        assert record.task_id == id  # type: ignore[attr-defined]

    async def test_records_come_in_order_before_the_result(self, seen: Seen, monkeypatch: Any) -> None:
        monkeypatch.setattr(logs, "BUDGET", 60.0)  # handlers that keep up, on however slow a machine
        async with self.worker() as worker:
            await worker.submit(speaking.say_many, 20)
            assert seen.messages == [str(number) for number in range(20)]

    async def test_a_finaliser_may_log(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.drop, "farewell")
            await worker.submit(tasks.echo, 1)
        assert seen.messages == ["farewell"]

    async def test_loggers_take_the_parents_levels(self, seen: Seen) -> None:
        logging.getLogger("spoken.quiet").setLevel(ERROR)
        try:
            async with self.worker() as worker:
                await worker.submit(speaking.say_levels, DEBUG, INFO, WARNING, ERROR, name="quiet.inner")
                await worker.submit(speaking.say_levels, DEBUG, INFO)
        finally:
            logging.getLogger("spoken.quiet").setLevel(logging.NOTSET)
        assert [(record.name, record.levelno) for record in seen.records] == [
            ("spoken.quiet.inner", ERROR),
            ("spoken", INFO),
        ]

    async def test_levels_that_change_later_hold_for_the_tasks_behind(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.say_levels, DEBUG, INFO)
            logging.getLogger("spoken").setLevel(DEBUG)
            await worker.submit(speaking.say_levels, DEBUG, INFO)
            logging.disable(INFO)
            try:
                await worker.submit(speaking.say_levels, DEBUG, INFO, WARNING)
            finally:
                logging.disable(logging.NOTSET)
            await worker.submit(speaking.say_levels, DEBUG)
        assert [record.levelno for record in seen.records] == [INFO, DEBUG, INFO, WARNING, DEBUG]


class RemoteLoggingContract(LoggingContext):
    """Contexts whose workers share no objects with the parent: records travel."""

    async def test_thousands_of_records_arrive_in_order_before_the_worker_is_gone(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.say_many, 10_000)
        assert seen.messages == [str(number) for number in range(10_000)]

    async def test_finalisers_that_log_in_the_midst_of_logging_spoil_nothing(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.drop_many, 500)
        assert [text for text in seen.messages if text.isdigit()] == [str(number) for number in range(500)]
        farewells = {text for text in seen.messages if not text.isdigit()}
        assert farewells == {f"farewell {number}" for number in range(500)}

    @pytest.mark.parametrize(
        ("kind", "given"),
        [
            ("lock", "<unlocked _thread.lock"),
            ("unspeakable", "<Unspeakable>"),
            ("recursive", "[1, [1, ["),
            ("local", "<local>"),
            ("enum", "1"),
            ("dict", "{('a', 1): [None, {'deep': '<Unspeakable>'}]}"),
        ],
    )
    async def test_an_extra_attribute_that_cannot_travel_becomes_text(
        self, kind: str, given: str, seen: Seen
    ) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.say_with, kind)
        (record,) = seen.records
        assert str(record.given).startswith(given)  # type: ignore[attr-defined]

    async def test_a_giant_record_is_shortened(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.say, INFO, "x" * (20 << 20), extra={"more": [b"y" * (20 << 20)]})
            await worker.submit(speaking.say, INFO, "next")
        first, second = seen.messages
        assert first.startswith("xxx")
        assert first.endswith("more characters)")
        assert len(first) < 1 << 20
        assert second == "next"

    async def test_a_message_that_cannot_be_made_is_dealt_with_as_logging_does(
        self, seen: Seen, capfd: pytest.CaptureFixture[str]
    ) -> None:
        async with self.worker() as worker:
            assert await worker.submit(speaking.say_nonsense) == "went on"
        assert seen.records == []
        assert "--- Logging error ---" in capfd.readouterr().err

    async def test_what_is_logged_at_the_start_and_the_end_of_a_worker_arrives(self, seen: Seen) -> None:
        async with self.worker(bootstrap=speaking.say_at_start) as worker:
            await worker.enqueue(tasks.Remember("key", 1, on_delete=speaking.log_value))
            await worker.submit(speaking.say_at_exit)
        assert seen.messages == ["starting", "1", "at exit"]
        assert [(r.worker_id, r.task_id) for r in seen.records] == [(1, None)] * 3  # type: ignore[attr-defined]

    async def test_a_task_that_does_away_with_finders_is_noticed_by_the_next_one(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(speaking.clear_finders)
            await worker.submit(speaking.import_logging)
            await worker.submit(speaking.say, INFO, "said")
        assert seen.messages == ["said"]

    async def test_a_slow_handler_does_not_hold_up_the_worker(self, seen: Seen, mailbox: Mailbox) -> None:
        with blocking(seen, mailbox) as blocked:
            async with self.worker() as worker:
                await worker.submit(speaking.say_and_tell, mailbox.path)
        assert blocked.was_released
        assert seen.messages == ["said"]

    async def test_what_a_worker_logs_as_it_ends_waits_for_a_slow_handler(
        self, seen: Seen, mailbox: Mailbox
    ) -> None:
        with blocking(seen, mailbox) as blocked:
            async with self.worker() as worker:
                await worker.submit(speaking.say_many_at_exit, 5000, mailbox.path)
        assert blocked.was_released
        assert seen.messages == [str(number) for number in range(5000)]

    async def test_the_event_loop_has_its_turns_while_a_worker_floods_it(self, seen: Seen) -> None:
        async with self.pool(1) as pool:
            flooding = pool.submit(speaking.say_many, 20_000)
            turns = 0
            while not flooding.done():
                await asyncio.sleep(0)
                turns += 1
        assert len(seen.records) == 20_000
        assert turns > 20

    async def test_a_task_cancelled_while_it_logs_leaves_the_stream_whole(self, seen: Seen) -> None:
        async with self.pool(1, cancel_grace=20) as pool:
            pid = await pool.submit(os.getpid)
            for _ in range(10):
                seen.records.clear()
                endless = pool.submit(speaking.say_for_ever)
                await eventually(lambda: len(seen.records) > 0)
                endless.cancel()
                await asyncio.wait([endless])
                assert endless.cancelled()
                assert set(seen.messages) == {"x" * 1000}
            assert await pool.submit(os.getpid) == pid

    async def test_a_handler_that_raises_harms_nobody(self, seen: Seen, told: list[dict[str, Any]]) -> None:
        hear(told)

        class Broken(logging.Handler):
            def handle(self, record: logging.LogRecord) -> bool:
                raise ValueError("broken handler")

        logger, handler = logging.getLogger("spoken.broken"), Broken()
        logger.addHandler(handler)
        try:
            async with self.worker() as worker:
                assert await worker.submit(speaking.say, INFO, "lost", name="broken")
                await worker.submit(speaking.say, INFO, "kept")
        finally:
            logger.removeHandler(handler)
        assert seen.messages == ["kept"]
        assert [str(context["exception"]) for context in told] == ["broken handler"]

    async def test_a_handler_may_use_the_pool(self, seen: Seen) -> None:
        started: list[Any] = []
        async with self.pool(2) as pool:

            class Working(logging.Handler):
                def emit(self, record: logging.LogRecord) -> None:
                    started.append(pool.submit(tasks.echo, record.getMessage()))

            handler = Working()
            logging.getLogger("spoken").addHandler(handler)
            try:
                await pool.submit(speaking.say_many, 3)
                assert await asyncio.gather(*started) == ["0", "1", "2"]
            finally:
                logging.getLogger("spoken").removeHandler(handler)

    async def test_handlers_of_a_workers_own_work_as_well(self, seen: Seen, tmp_path: Path) -> None:
        path = tmp_path / "own.log"
        async with self.worker() as worker:
            await worker.submit(speaking.add_handler, str(path))
            await worker.submit(speaking.say, INFO, "twice")
        assert seen.messages == ["twice"]
        assert path.read_text() == "twice\n"

    async def test_basic_config_adds_nothing_unless_forced(self, seen: Seen, tmp_path: Path) -> None:
        path = tmp_path / "own.log"
        async with self.worker() as worker:
            assert await worker.submit(speaking.basic_config, str(path)) == 1
            await worker.submit(speaking.say, INFO, "forwarded")
            assert await worker.submit(speaking.basic_config, str(path), force=True) == 1
            await worker.submit(speaking.say, INFO, "kept there")
        assert seen.messages == ["forwarded"]
        assert path.read_text() == "INFO:spoken:kept there\n"

    async def test_records_come_before_the_result_whichever_the_loop_reads_first(self, seen: Seen) -> None:
        async with self.worker() as worker:
            await worker.submit(tasks.echo, 1)
            (handle,) = worker._dispatcher.handles.values()
            link: Any = handle.link
            asyncio.get_running_loop().remove_reader(link._control._sock)
            await worker.submit(speaking.say, INFO, "said")
            assert seen.messages == ["said"]

    async def test_a_level_named_in_the_parent_alone_has_its_name(self, seen: Seen) -> None:
        logging.addLevelName(25, "NOTICE")
        async with self.worker() as worker:
            await worker.submit(speaking.say, 25, "mind")
        assert [record.levelname for record in seen.records] == ["NOTICE"]

    async def test_a_worker_whose_tasks_do_not_log_never_imports_logging(self) -> None:
        async with self.worker() as worker:
            await worker.submit(tasks.echo, 1)
            assert not await worker.submit(speaking.is_loaded, "logging")


class LoggingProcessContract(LoggingContext):
    """Contexts whose workers are processes: they can die, and are started in several ways."""

    async def test_the_last_words_of_a_killed_worker_arrive(self, seen: Seen) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(WorkerCrashed):
                await pool.submit(speaking.say_and_die)
            assert seen.messages == ["last words"]

    @pytest.mark.parametrize("options", [{}, {"start_method": "exec"}, {"preload": ["logging"]}])
    async def test_however_a_worker_is_started(self, options: dict[str, Any], seen: Seen) -> None:
        async with self.worker(**options) as worker:
            assert await worker.submit(speaking.is_loaded, "logging") == ("preload" in options)
            await worker.submit(speaking.say, INFO, "said")
        assert seen.messages == ["said"]

    async def test_a_process_that_a_task_forks_logs_for_itself(
        self, seen: Seen, capfd: pytest.CaptureFixture[str]
    ) -> None:
        async with self.worker() as worker:
            assert await worker.submit(speaking.say_in_fork) == 0
        assert seen.messages == ["before", "after"]
        assert "in the child" in capfd.readouterr().err

    async def test_a_task_without_descriptors_logs_to_nobody(self, seen: Seen) -> None:
        async with self.pool(1) as pool:
            with suppress(WorkerCrashed):  # unless the outcome is read from the journal before that
                await pool.submit(speaking.say_without_descriptors)
            await pool.submit(speaking.say, INFO, "next")
        assert seen.messages == ["next"]
