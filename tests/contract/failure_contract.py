"""Tasks that fail: their exceptions arrive whole, and the worker goes on."""

from __future__ import annotations

import asyncio
import traceback

import pytest
from support import tasks

from contract.base import Context
from offloop import RemoteTraceback, TaskFailed


def related(error: BaseException) -> list[BaseException]:
    """An exception with all that it came from, by cause or by context."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        item = waiting.pop()
        if item is not None and item not in found:
            found.append(item)
            waiting += [item.__cause__, item.__context__]
    return found


class FailureContract(Context):
    """Exceptions raised by tasks."""

    async def test_a_task_fails_with_the_exception_it_raised(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(ValueError, match=r"^broken$") as caught:
                await worker.submit(tasks.fail, ValueError("broken"))
            assert type(caught.value) is ValueError

    async def test_the_traceback_shows_where_in_the_worker_it_was_raised(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(ValueError, match="odd") as caught:
                await worker.submit(tasks.fail_if_odd, 1)
        text = "".join(traceback.format_exception(caught.value))
        assert "in fail_if_odd" in text
        assert "faulty.py" in text

    async def test_a_failed_task_is_followed_by_a_good_one_on_the_same_worker(self) -> None:
        async with self.worker() as worker:
            before = await worker.submit(tasks.identity)
            with pytest.raises(ValueError, match="broken"):
                await worker.submit(tasks.fail, ValueError("broken"))
            assert worker.is_running()
            assert await worker.submit(tasks.identity) == before

    async def test_a_failed_task_holds_up_nothing_queued_behind_it(self) -> None:
        async with self.worker() as worker:
            executions = [worker.submit(tasks.fail_if_odd, number) for number in range(6)]
            outcomes = await asyncio.gather(*executions, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [int, ValueError] * 3

    async def test_causes_are_kept(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(ValueError, match="the surface") as caught:
                await worker.submit(tasks.fail_with_cause)
        assert any(
            isinstance(error, KeyError) and error.args == ("the root",) for error in related(caught.value)
        )

    async def test_contexts_are_kept(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(ValueError, match="the second") as caught:
                await worker.submit(tasks.fail_with_context)
        assert any(
            isinstance(error, KeyError) and error.args == ("the first",) for error in related(caught.value)
        )

    async def test_notes_are_kept(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(ValueError, match="noted") as caught:
                await worker.submit(tasks.fail_with_notes)
        assert caught.value.__notes__[:2] == ["first note", "second note"]

    async def test_the_members_of_a_group_are_kept(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(ExceptionGroup, match="several") as caught:
                await worker.submit(tasks.fail_with_group)
        first, inner = caught.value.exceptions
        assert (type(first), first.args) == (ValueError, ("one",))
        assert isinstance(inner, ExceptionGroup)
        assert [(type(error), error.args) for error in inner.exceptions] == [(KeyError, ("two",))]

    async def test_except_star_works_on_a_failed_task(self) -> None:
        matched: list[str] = []
        async with self.worker() as worker:
            try:
                await worker.submit(tasks.fail_with_group)
            except* KeyError:
                matched.append("KeyError")
            except* ValueError:
                matched.append("ValueError")
        assert matched == ["KeyError", "ValueError"]

    async def test_an_exception_with_an_init_of_its_own_arrives(self) -> None:
        async with self.worker() as worker:
            with pytest.raises((tasks.TwoArgumentError, TaskFailed), match="404: not here"):
                await worker.submit(tasks.fail_in_two_arguments)
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_a_local_exception_class_arrives(self) -> None:
        class LocalError(Exception):
            pass

        def raise_it() -> None:
            raise LocalError("local")

        async with self.worker() as worker:
            with pytest.raises(LocalError, match="local"):
                await worker.submit(raise_it)

    @pytest.mark.parametrize(
        "name", ["RecursionError", "MemoryError", "OSError", "TimeoutError", "AssertionError"]
    )
    async def test_builtin_exceptions_arrive_as_themselves(self, name: str) -> None:
        async with self.worker() as worker:
            with pytest.raises(Exception, match=r"^$") as caught:
                await worker.submit(tasks.fail_by_name, name)
            assert type(caught.value).__name__ == name

    async def test_the_exception_of_a_coroutine_arrives(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(LookupError, match="async"):
                await worker.submit(tasks.afail_by_name, "LookupError", "async")

    async def test_the_exception_of_a_generator_arrives(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(ValueError, match="the generator broke"):
                await worker.submit(tasks.count_then_fail, 3)

    @pytest.mark.parametrize(
        "name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "CancelledError"]
    )
    async def test_an_exception_that_would_end_things_is_a_failed_task(self, name: str) -> None:
        async with self.worker() as worker:
            before = await worker.submit(tasks.identity)
            with pytest.raises(TaskFailed, match=name) as caught:
                await worker.submit(tasks.fail_by_name, name, 3)
            assert caught.value.type_name.endswith(name)
            assert "fail_by_name" in caught.value.traceback
            assert await worker.submit(tasks.identity) == before

    @pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError"])
    async def test_such_an_exception_out_of_a_coroutine_is_a_failed_task(self, name: str) -> None:
        async with self.worker() as worker:
            before = await worker.submit(tasks.identity)
            with pytest.raises(TaskFailed, match=name):
                await worker.submit(tasks.afail_by_name, name, 3)
            assert await worker.submit(tasks.identity) == before

    async def test_wrong_arguments_are_the_tasks_type_error(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(TypeError, match="echo"):
                await worker.submit(tasks.echo)
            assert await worker.submit(tasks.echo, 1) == 1


class RemoteFailureContract(Context):
    """Exceptions that come out of another interpreter."""

    async def test_the_workers_traceback_is_the_cause(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(ValueError, match="odd") as caught:
                await worker.submit(tasks.fail_if_odd, 1)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in fail_if_odd" in str(caught.value.__cause__)

    async def test_an_exception_that_cannot_be_pickled_is_described(self) -> None:
        async with self.worker() as worker:
            before = await worker.submit(tasks.identity)
            with pytest.raises(TaskFailed) as caught:
                await worker.submit(tasks.fail_unpicklably)
            assert caught.value.type_name.endswith("UnpicklableError")
            assert caught.value.message == "secret"
            assert "in fail_unpicklably" in caught.value.traceback
            assert await worker.submit(tasks.identity) == before
