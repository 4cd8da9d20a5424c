"""What travels, what does not, and that only the execution concerned notices."""

from __future__ import annotations

import asyncio
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from support import tasks

from contract.base import Context
from offloop import SerializationError, Task

#: Far beyond any recursion limit.
DEPTH = 100_000


class PicklingContract(Context):
    """Contexts that pickle."""

    async def test_a_task_that_cannot_be_pickled_is_followed_by_one_that_can(self) -> None:
        async with self.worker() as worker:
            bad = worker.enqueue(tasks.Echo(tasks.Stubborn()))
            good = worker.enqueue(tasks.Echo("good"))
            with pytest.raises(SerializationError, match="not to be moved"):
                await bad
            assert await good == "good"

    async def test_the_error_names_the_argument_that_cannot_be_pickled(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(SerializationError, match="Stubborn"):
                await worker.submit(tasks.echo, tasks.Stubborn())

    async def test_a_result_that_cannot_be_pickled_fails_by_its_types_name(self) -> None:
        async with self.worker() as worker:
            before = await worker.submit(tasks.identity)
            with pytest.raises(SerializationError, match="lock"):
                await worker.submit(tasks.new_lock)
            assert await worker.submit(tasks.identity) == before

    async def test_a_result_that_cannot_be_loaded_fails_by_its_types_name(self) -> None:
        async with self.worker() as worker:
            before = await worker.submit(tasks.identity)
            with pytest.raises(SerializationError, match="FailsInParent"):
                await worker.submit(tasks.FailsInParent, tasks.home())
            assert await worker.submit(tasks.identity) == before

    @pytest.mark.parametrize(
        "bomb",
        [
            tasks.FailsOnLoad(tasks.fail, ValueError("bomb")),
            tasks.FailsOnLoad(sys.exit, 3),
            tasks.FailsOnLoad(tasks.fail_by_name, "KeyboardInterrupt"),
        ],
        ids=["raises", "exits", "interrupts"],
    )
    async def test_an_argument_that_fails_while_loading_fails_its_own_task_alone(self, bomb: object) -> None:
        async with self.worker() as worker:
            before = await worker.submit(tasks.identity)
            bad = worker.submit(tasks.echo, bomb)
            good = worker.submit(tasks.identity)
            with pytest.raises(SerializationError):
                await bad
            assert await good == before

    async def test_a_result_that_exits_while_loading_fails_its_own_task_alone(self) -> None:
        def make_bomb() -> Any:
            return tasks.FailsOnLoad(sys.exit, 3)

        async with self.worker() as worker:
            bad = worker.submit(make_bomb)
            good = worker.submit(tasks.echo, "good")
            with pytest.raises(SerializationError):
                await bad
            assert await good == "good"

    async def test_a_result_nested_too_deep_fails_and_the_worker_goes_on(self) -> None:
        async with self.worker() as worker:
            before = await worker.submit(tasks.identity)
            with pytest.raises(SerializationError, match="list"):
                await worker.submit(tasks.nested_list, DEPTH)
            assert await worker.submit(tasks.identity) == before

    async def test_an_argument_nested_too_deep_fails_and_the_worker_goes_on(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(SerializationError):
                await worker.submit(len, tasks.nested_list(DEPTH))
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_code_that_only_fails_to_import_in_the_worker_is_explained(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = (
            "from support.tasks import home\n"
            f"if home() != {tasks.home()}:\n    raise ImportError('no such library here')\n"
        )
        (tmp_path / "stay_at_home.py").write_text(source + "def answer():\n    return 42\n")
        monkeypatch.syspath_prepend(tmp_path)
        import stay_at_home  # type: ignore[import-not-found]

        async with self.worker() as worker:
            with pytest.raises(SerializationError, match="stay_at_home") as caught:
                await worker.submit(stay_at_home.answer)
            assert "no such library here" in str(caught.value)
            assert await worker.submit(tasks.echo, 1) == 1
        del sys.modules["stay_at_home"]

    async def test_a_module_next_to_the_program_travels_by_reference(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "next_door.py").write_text("def where():\n    return __file__\n")
        monkeypatch.syspath_prepend(tmp_path)
        import next_door  # type: ignore[import-not-found]

        async with self.worker() as worker:
            assert await worker.submit(next_door.where) == str(tmp_path / "next_door.py")
        del sys.modules["next_door"]

    async def test_code_of_a_module_that_exists_only_here_travels_by_value(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module: Any = types.ModuleType("only_in_memory")
        monkeypatch.setitem(sys.modules, "only_in_memory", module)
        exec("factor = 3\ndef scale(number):\n    return number * factor", module.__dict__)
        async with self.worker() as worker:
            assert await worker.submit(module.scale, 2) == 6

    async def test_a_function_by_value_takes_the_globals_of_each_submit(self) -> None:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec("factor = 1\ndef scale(number):\n    return number * factor", namespace)
        async with self.worker() as worker:
            assert await worker.submit(namespace["scale"], 2) == 2
            namespace["factor"] = 10
            assert await worker.submit(namespace["scale"], 2) == 20

    async def test_a_local_task_class_travels_by_value(self) -> None:
        class Local(Task[str]):
            def __init__(self, text: str) -> None:
                self.text = text

            def run(self, environment: object) -> str:
                return self.text.upper()

        async with self.worker() as worker:
            assert await worker.enqueue(Local("text")) == "TEXT"

    async def test_the_worker_is_elsewhere(self) -> None:
        async with self.worker() as worker:
            assert await worker.submit(tasks.home) != tasks.home()

    async def test_a_task_changes_its_own_copy(self) -> None:
        given: list[int] = []
        async with self.worker() as worker:
            assert await worker.submit(list.append, given, 1) is None
        assert given == []

    async def test_a_bad_task_in_a_pool_harms_no_other(self) -> None:
        async with self.pool(2) as pool:
            executions = [pool.submit(tasks.echo, tasks.Stubborn() if n == 5 else n) for n in range(10)]
            outcomes = await asyncio.gather(*executions, return_exceptions=True)
        assert isinstance(outcomes.pop(5), SerializationError)
        assert outcomes == [0, 1, 2, 3, 4, 6, 7, 8, 9]


class SharingContract(Context):
    """Contexts that share objects rather than pickle them."""

    async def test_arguments_and_results_are_the_same_objects(self) -> None:
        given = object()
        async with self.worker() as worker:
            assert await worker.submit(tasks.echo, given) is given

    async def test_a_task_changes_what_it_was_given(self) -> None:
        given: list[int] = []
        async with self.worker() as worker:
            await worker.submit(given.append, 1)
        assert given == [1]

    async def test_what_cannot_be_pickled_is_welcome(self) -> None:
        stubborn = tasks.Stubborn()
        async with self.worker() as worker:
            assert await worker.submit(tasks.echo, stubborn) is stubborn
            assert (await worker.submit(tasks.new_lock)).acquire(blocking=False)

    async def test_an_exception_is_the_object_that_was_raised(self) -> None:
        error = ValueError("shared")
        async with self.worker() as worker:
            with pytest.raises(ValueError, match="shared") as caught:
                await worker.submit(tasks.fail, error)
        assert caught.value is error

    async def test_an_exception_that_cannot_be_pickled_arrives_as_itself(self) -> None:
        async with self.worker() as worker:
            with pytest.raises(tasks.UnpicklableError, match="secret"):
                await worker.submit(tasks.fail_unpicklably)
