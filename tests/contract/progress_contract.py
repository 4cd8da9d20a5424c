"""What goes between a running task and its execution: reports of progress, and messages."""

from __future__ import annotations

import asyncio
import fractions
import gc

import numpy as np
import pytest
from support import talking, tasks
from support.gates import Gate, Mailbox

from contract.base import Context, occupy
from offloop import Execution, Progress, WorkerCrashed

TALKERS = pytest.mark.parametrize("talk", [talking.add_up, talking.aadd_up], ids=["sync", "async"])
WAITERS = pytest.mark.parametrize(
    ("wait", "gets"),
    [(talking.receive_and_tell, "TaskCancelled"), (talking.areceive_and_tell, "CancelledError")],
    ids=["sync", "async"],
)


class ProgressContract(Context):
    """``current_task().report(...)`` and `Execution.progress`."""

    async def test_reports_arrive_while_the_task_still_runs(self, gate: Gate) -> None:
        async with self.worker() as worker:
            given = [(1,), (2.5, 10), (3, 10, "three")]
            execution = worker.submit(talking.report_with_gates, gate.path, given)
            seen = []
            async for progress in execution.progress():
                seen.append(progress)
                await gate.arrived()
                assert not execution.done()
                gate.let_through()
            assert seen == [Progress(1), Progress(2.5, 10), Progress(3, 10, "three")]
            assert seen[2].message == "three"

    async def test_who_comes_late_gets_what_was_reported_so_far(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.report_each, 10)
            await execution
            for _ in range(2):
                assert [p.done async for p in execution.progress()] == list(range(1, 11))

    async def test_async_tasks_report(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.areport, [0.5, 1.0])
            assert [p.done async for p in execution.progress()] == [0.5, 1.0]

    async def test_a_task_that_reports_nothing_has_no_progress(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(tasks.echo, 1)
            assert [p async for p in execution.progress()] == []
            assert not worker.submit(tasks.echo, 1).is_live

    async def test_a_flood_is_thinned_out_but_never_the_last(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.report_each, 30_000)
            seen = [progress.done async for progress in execution.progress()]
            assert seen[0] >= 1
            assert seen[-1] == 30_000
            assert seen == sorted(set(seen))
            replayed = [progress.done async for progress in execution.progress()]
            assert len(replayed) <= 1000
            assert replayed[-1] == 30_000

    async def test_progress_ends_without_the_error_of_the_task(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.report_then, "raise")
            assert [progress async for progress in execution.progress()] == [Progress(1, 2, "before")]
            with pytest.raises(ValueError, match="after the report"):
                await execution

    async def test_progress_of_a_task_cancelled_before_its_start_ends(self, gate: Gate) -> None:
        async with self.worker() as worker:
            await occupy(worker, gate)
            execution = worker.submit(talking.report_each, 1)
            following = asyncio.ensure_future(collect(execution))
            await asyncio.sleep(0)
            execution.cancel()
            assert await following == []
            gate.open()

    async def test_cancelling_one_who_follows_touches_nobody_else(self, gate: Gate) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.report_with_gates, gate.path, [(1,), (2,)])
            first, second = (asyncio.ensure_future(collect(execution)) for _ in range(2))
            await gate.arrived()
            first.cancel()
            await asyncio.wait([first])
            gate.open()
            assert [progress.done for progress in await second] == [1, 2]
            assert not execution.cancelled()

    async def test_what_is_no_number_is_a_type_error(self) -> None:
        class Text(str):
            pass

        good = [
            (0,),
            (float("nan"), float("inf")),
            (10**30, None, "x"),
            (fractions.Fraction(1, 2),),
            (1, None, Text("text")),
            *([(np.int64(3), np.float32(0.5))] if self.has_numpy else []),
        ]
        bad = [("1",), (None,), (True,), (1, "2"), (1, 2, 3), (1j,), (b"1",)]
        async with self.worker() as worker:
            execution = worker.submit(talking.report_values, *good, *bad)
            assert await execution == [""] * len(good) + ["TypeError"] * len(bad)
            seen = await collect(execution)
            assert len(seen) == len(good)
            assert seen[2] == (10**30, None, "x")
            assert seen[3] == (0.5, None, None)
            assert seen[4].message == "text"
            assert seen[5:] == ([(3, 0.5, None)] if self.has_numpy else [])

    async def test_mapped_functions_may_report(self) -> None:
        async with self.pool(2) as pool:
            numbers = list(range(100))
            squares = await pool.map(talking.report_and_square, numbers)
            assert squares == [number * number for number in numbers]

    async def test_any_thread_of_a_task_may_report(self) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.report_from_threads, 2000)
            seen = await collect(execution)
            assert seen[-1] == Progress(-1, None, "last")
            await execution

    async def test_what_a_thread_reports_after_the_end_goes_nowhere(self, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.leave_context, mailbox.path)
            assert await collect(execution) == [Progress(1)]
            await execution
            said = [await mailbox.next() for _ in range(4)]
            assert said == ["ChannelClosed", "ChannelClosed", "ChannelClosed", "late"]
            assert await worker.submit(tasks.echo, 1) == 1
            assert await collect(execution) == [Progress(1)]

    async def test_a_dropped_iterator_leaves_nothing(self, gate: Gate) -> None:
        async with self.worker() as worker:
            execution = worker.submit(talking.report_with_gates, gate.path, [(1,), (2,)])
            async for _ in execution.progress():
                break
            gc.collect()
            gate.open()
            await execution
            assert len(await collect(execution)) == 2


class ProgressCrashContract(Context):
    """Reports of workers that die."""

    async def test_what_was_reported_before_a_crash_arrives(self) -> None:
        async with self.pool(1) as pool:
            execution = pool.submit(talking.report_then, "crash")
            assert await collect(execution) == [Progress(1, 2, "before")]
            with pytest.raises(WorkerCrashed):
                await execution

    async def test_the_reports_of_the_next_attempt_follow(self, mailbox: Mailbox) -> None:
        async with self.pool(1) as pool:
            execution = pool.options(retries=1).submit(talking.report_attempt, mailbox.path)
            assert [progress.done for progress in await collect(execution)] == [1, 2]
            assert await execution == 2


async def collect(execution: Execution[object]) -> list[Progress]:
    """All of an execution's reports."""
    return [progress async for progress in execution.progress()]
