"""Context variables: a task sees what was set where it was enqueued, and leaves nothing to the next."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest
from support import tasks, variables
from support.bounds import eventually
from support.gates import Gate
from support.variables import request_id, settings

from contract.base import Context
from offloop import SerializationError, Worker, WorkerCrashed


class ContextContract(Context):
    """What every context does."""

    @pytest.mark.parametrize(
        "read",
        [
            variables.read,
            variables.read_each,
            variables.aread,
            variables.aread_each,
            lambda: variables.request_id.get(),
        ],
        ids=["sync", "generator", "async", "async generator", "by value"],
    )
    async def test_a_task_sees_what_was_set_when_it_was_enqueued(self, read: Callable[[], Any]) -> None:
        async with self.worker() as worker:
            unset = worker.submit(read)
            request_id.set("first")
            first = worker.submit(read)
            request_id.set("second")
            second = worker.submit(read)
            found = await asyncio.gather(unset, first, second)
            expected: list[Any] = ["none", "first", "second"]
            assert found in (expected, [[value] for value in expected])

    async def test_a_task_object_sees_it_too(self) -> None:
        request_id.set("mine")
        async with self.worker() as worker:
            assert await worker.enqueue(variables.Read()) == "mine"

    async def test_each_request_has_its_own_id(self) -> None:
        async def handle(worker: Worker, number: int) -> bool:
            request_id.set(number)
            found = [await worker.submit(variables.read) for _ in range(3)]
            return found == [number] * 3

        async with self.pool(2) as pool:
            assert all(await asyncio.gather(*(handle(pool, number) for number in range(20))))

    async def test_tasks_of_one_worker_take_turns_without_mixing_their_values(self) -> None:
        contexts = [copy_context() for _ in range(3)]
        for name, context in zip("abc", contexts, strict=True):
            context.run(request_id.set, name)
        async with self.worker() as worker:
            calls = [context.run(worker.submit, variables.read) for _ in range(20) for context in contexts]
            plain = worker.submit(variables.read)
            assert await asyncio.gather(*calls) == [*"abc"] * 20
            assert await plain == "none"

    async def test_overlapping_tasks_have_each_their_own(self, gate: Gate) -> None:
        async with self.worker(concurrency=2) as worker:
            request_id.set("a")
            first = worker.submit(variables.aread_behind_gate, gate.path)
            request_id.set("b")
            second = worker.submit(variables.aread_behind_gate, gate.path)
            await gate.arrived(2)
            gate.open()
            assert await asyncio.gather(first, second) == [("a", "a"), ("b", "b")]

    @pytest.mark.parametrize("overwrite", [variables.overwrite, variables.aoverwrite], ids=["sync", "async"])
    async def test_what_a_task_sets_is_not_seen_by_the_next(self, overwrite: Callable[..., Any]) -> None:
        request_id.set("mine")
        async with self.worker() as worker:
            found = [worker.submit(fn, "theirs") for fn in (overwrite, variables.overwrite, overwrite)]
            assert await asyncio.gather(*found) == ["mine"] * 3
            assert await worker.submit(variables.aread) == "mine"
        assert request_id.get() == "mine"

    async def test_an_async_task_leaves_nothing_to_one_without_variables(self) -> None:
        async with self.worker() as worker:
            assert not copy_context().get(request_id)
            await worker.submit(variables.aoverwrite, "theirs")
            assert await worker.submit(variables.read) == "none"
            assert await worker.submit(variables.aread) == "none"

    async def test_a_value_that_changes_is_as_it_is_when_the_task_is_sent(self) -> None:
        settings.set(["a"])
        async with self.worker() as worker:
            assert await worker.submit(variables.read_both) == ("none", ["a"])
            settings.get().append("b")
            assert await worker.submit(variables.read_both) == ("none", ["a", "b"])

    async def test_the_running_task_is_known_in_its_context(self) -> None:
        request_id.set("mine")
        async with self.worker() as worker:
            first, second = worker.submit(variables.read_with_task_id), worker.submit(tasks.current_worker_id)
            assert await first == ("mine", first.id)
            assert await second == 1
            await worker.submit(variables.aread)
            assert await worker.submit(tasks.current_worker_id) == 1, "also where there is an event loop"

    async def test_without_variables_the_running_task_is_known_beside_an_event_loop(self) -> None:
        async with self.worker() as worker:
            await worker.submit(tasks.aecho, None)
            assert await worker.submit(tasks.current_worker_id) == 1

    async def test_what_the_bootstrap_sets_holds_where_nothing_else_is_set(self) -> None:
        async with self.worker(bootstrap=variables.set_at_start) as worker:
            assert await worker.submit(variables.read_both) == ("bootstrap", "bootstrap")
            request_id.set("mine")
            assert await worker.submit(variables.read_both) == ("mine", "bootstrap")

    async def test_a_map_runs_in_the_context_of_its_call(self) -> None:
        request_id.set("map")
        async with self.pool(2) as pool:
            mapped = pool.map(variables.read_for, range(100), chunksize=7)
            request_id.set("later")
            assert await mapped == ["map"] * 100
            assert [item async for item in pool.map(variables.read_for, range(3))] == ["later"] * 3

    async def test_leases_and_broadcasts_carry_it(self) -> None:
        request_id.set("mine")
        async with self.pool(1) as pool, pool.get_worker() as worker:
            assert await worker.submit(variables.read) == "mine"
            request_id.set("all")
            assert await pool.broadcast(variables.read) == ["all"]

    async def test_a_variable_of_a_closure_is_the_same_everywhere(self) -> None:
        variable: ContextVar[str] = ContextVar("variable")
        other: ContextVar[str] = ContextVar("variable", default="default")

        def look() -> tuple[str | None, str]:
            return variable.get(None), other.get()

        async with self.worker() as worker:
            assert await worker.submit(look) == (None, "default")
            variable.set("mine")
            assert await worker.submit(look) == ("mine", "default")
            assert await worker.submit(lambda: [variable, other, request_id]) == [variable, other, request_id]
            assert await worker.submit(lambda given: given is variable, variable)


class ContextCopyContract(Context):
    """Contexts that pickle."""

    async def test_a_value_that_can_not_be_pickled_is_left_out(self) -> None:
        request_id.set("mine")
        settings.set(threading.Lock())
        async with self.worker() as worker:
            assert await worker.submit(variables.read_both) == ("mine", None)
            settings.set("again")
            assert await worker.submit(variables.read_both) == ("mine", "again")

    @pytest.mark.parametrize(
        "bomb",
        [
            tasks.FailsOnLoad(tasks.fail, ValueError("bomb")),
            tasks.FailsOnLoad(sys.exit, 3),
            tasks.FailsOnLoad(tasks.fail_by_name, "KeyboardInterrupt"),
        ],
        ids=["raises", "exits", "interrupts"],
    )
    async def test_a_value_that_can_not_be_loaded_is_left_out(self, bomb: object) -> None:
        async with self.worker() as worker:
            pid = await worker.submit(os.getpid)
            request_id.set("mine")
            settings.set(bomb)
            assert await worker.submit(variables.read_both) == ("mine", None)
            assert await worker.submit(variables.aread) == "mine"
            assert await worker.submit(os.getpid) == pid

    async def test_what_a_task_changes_in_a_value_is_not_seen_by_the_next(self) -> None:
        settings.set(["mine"])
        async with self.worker() as worker:
            calls = [worker.submit(variables.append_to_settings, number) for number in range(3)]
            assert await asyncio.gather(*calls) == [["mine", 0], ["mine", 1], ["mine", 2]]
        assert settings.get() == ["mine"]

    async def test_a_context_itself_is_no_argument(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(SerializationError, match="Context"):
                await worker.submit(tasks.echo, copy_context())

    async def test_a_value_may_be_large(self) -> None:
        settings.set(bytes(5_000_000))
        async with self.worker() as worker:
            assert await worker.submit(lambda: len(settings.get())) == 5_000_000


class ContextCrashContract(Context):
    """Contexts whose workers can die."""

    async def test_a_value_that_ends_the_worker_as_it_is_loaded_costs_one_task(self) -> None:
        async with self.pool(1) as pool:
            settings.set(tasks.FailsOnLoad(os._exit, 3))
            fatal = pool.submit(variables.read_both)
            settings.set("harmless")
            with pytest.raises(WorkerCrashed):
                await fatal
            assert await pool.submit(variables.read_both) == ("none", "harmless")

    async def test_the_values_go_with_a_task_to_its_next_worker(self, tmp_path: Path) -> None:
        async with self.pool(1) as pool:
            request_id.set("tried again")
            retried = pool.options(retries=1).submit(variables.crash_once_then_read, str(tmp_path / "log"))
            request_id.set("moved")
            moved = [pool.submit(variables.read) for _ in range(3)]
            request_id.set("new")
            assert await retried == "tried again"
            assert await asyncio.gather(*moved) == ["moved"] * 3
            assert await pool.submit(variables.read) == "new"


class Value:
    """Something that can be watched."""


class ContextSharingContract(Context):
    """Contexts that share objects."""

    async def test_every_value_is_there_and_is_the_object_itself(self) -> None:
        value = threading.Lock()
        settings.set(value)
        async with self.worker() as worker:
            (_, found) = await worker.submit(variables.read_both)
            assert found is value

    @pytest.mark.parametrize("has_loop", [False, True], ids=["without a loop", "with a loop"])
    async def test_an_idle_worker_keeps_neither_values_nor_arguments(self, has_loop: bool) -> None:
        async with self.worker() as worker:
            if has_loop:
                await worker.submit(tasks.aecho, None)
            values = [Value(), Value()]
            watched = [weakref.ref(value) for value in values]
            context = copy_context()
            context.run(settings.set, values[0])
            await context.run(worker.submit, variables.read_for, values[1])
            del values, context
            await eventually(lambda: gc.collect() >= 0 and not any(value() for value in watched))
