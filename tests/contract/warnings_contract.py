"""What workers warn of is shown by the parent."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest
from support import speaking

from contract.logging_contract import LoggingContext, hear


class WarningsContract(LoggingContext):
    """What holds wherever a task runs."""

    async def test_a_warning_is_shown(self) -> None:
        async with self.worker() as worker:
            with pytest.warns(UserWarning, match="careful") as caught:
                assert await worker.submit(speaking.warn, "careful") == "went on"
        (shown,) = caught
        assert os.path.basename(shown.filename) == "speaking.py"

    async def test_a_warning_that_the_parent_ignores_is_not_shown(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.filterwarnings("ignore", message="not th.s one", category=DeprecationWarning)
            async with self.worker() as worker:
                await worker.submit(speaking.warn, "not this one", "DeprecationWarning")
                await worker.submit(speaking.warn, "this one", "DeprecationWarning")
        assert [str(one.message) for one in caught] == ["this one"]

    async def test_a_warning_that_a_task_catches_is_its_own(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async with self.worker() as worker:
                assert await worker.submit(speaking.catch_own_warnings, "private") == ["private"]
        assert caught == []


class RemoteWarningsContract(LoggingContext):
    """Contexts whose workers are processes: warnings travel."""

    async def test_a_warning_of_one_place_is_shown_once_for_all_workers(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(2):
                async with self.worker() as worker:
                    await worker.submit(speaking.warn, "shown once")
                    await worker.submit(speaking.warn, "shown once")
        assert [str(one.message) for one in caught] == ["shown once"]

    async def test_a_warning_that_the_parent_makes_an_error_is_told_to_the_loop(
        self, told: list[dict[str, Any]]
    ) -> None:
        hear(told)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with self.worker() as worker:
                assert await worker.submit(speaking.warn, "fatal") == "went on"
        (context,) = told
        assert isinstance(context["exception"], UserWarning)
        assert str(context["exception"]) == "fatal"
        assert "worker 1 warned" in context["message"]

    async def test_categories_are_kept_as_far_as_the_parent_knows_them(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async with self.worker() as worker:
                await worker.submit(speaking.warn, "known", "OwnWarning")
                await worker.submit(speaking.warn_of_unknown, "unknown")
                await worker.submit(speaking.warn_strictly)
        assert [(one.category, str(one.message)) for one in caught] == [
            (speaking.OwnWarning, "known"),
            (FutureWarning, "unknown"),
            (RuntimeWarning, "one and two"),
        ]

    async def test_filters_that_change_later_hold_for_the_tasks_behind(self) -> None:
        async with self.worker() as worker:
            for action, shown in [("ignore", 0), ("always", 2), ("default", 1), ("always", 2)]:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter(action)  # type: ignore[arg-type]
                    await worker.submit(speaking.warn, "again")
                    await worker.submit(speaking.warn, "again")
                assert len(caught) == shown, action
