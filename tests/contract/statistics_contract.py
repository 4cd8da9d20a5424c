"""Statistics: what a pool and its workers say of their work, at any moment."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from support import tasks
from support.bounds import eventually
from support.gates import Gate, Mailbox

from contract.base import Context, occupy
from offloop import Execution, Statistics, TaskTimeout, Worker, WorkerKilled, WorkerPool


def check(statistics: Statistics) -> None:
    """What holds of every snapshot."""
    s = statistics
    assert s.submitted == s.queued + s.sent + s.done
    assert 0 <= s.running <= s.sent
    assert s.run.count == s.wait.count
    assert 0 <= s.busy_fraction <= 1
    assert sum(s.worker_states.values()) == len(s.workers)
    assert s.sent == sum(worker.sent for worker in s.workers)
    assert s.running == sum(len(worker.running) for worker in s.workers)
    assert json.loads(json.dumps(s.to_dict()))["submitted"] == s.submitted
    assert str(s).splitlines()[0].startswith(f"tasks    {s.submitted:,}: {s.queued:,} queued")
    assert pickle.loads(pickle.dumps(s)) == s


def outcomes(statistics: Statistics) -> dict[str, int]:
    """The outcomes there are."""
    names = ("succeeded", "failed", "cancelled", "timed_out", "crashed", "killed")
    check(statistics)
    return {name: getattr(statistics, name) for name in names if getattr(statistics, name)}


async def settle(*executions: Execution[Any]) -> None:
    """Wait for all, however they end."""
    await asyncio.gather(*executions, return_exceptions=True)


@asynccontextmanager
async def watched() -> AsyncIterator[list[Statistics]]:
    """A list to put snapshots in; in the end each must have counted no less than the one before."""
    taken: list[Statistics] = []
    yield taken
    for before, after in pairwise(taken):
        for name in ("submitted", "succeeded", "done", "started", "bytes_out", "bytes_in"):
            assert getattr(after, name) >= getattr(before, name), name


class StatisticsContract(Context):
    """Counts, times and workers."""

    async def test_before_the_first_task_there_is_nothing(self) -> None:
        pool = self.pool(2)
        before = pool.statistics()
        check(before)
        assert (before.submitted, before.started, before.workers, before.run.count) == (0, 0, (), 0)
        assert before.busy_fraction == 0.0
        await pool.shutdown()

    def test_they_can_be_had_without_an_event_loop(self) -> None:
        async def work() -> WorkerPool:
            async with self.pool(1) as pool:
                await pool.submit(tasks.echo, 1)
            return pool

        assert self.pool(1).statistics().submitted == 0
        assert asyncio.run(work()).statistics().succeeded == 1

    async def test_tasks_are_counted_by_where_they_are(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            held = await occupy(pool, gate, 2)
            waiting = [pool.submit(tasks.echo, number) for number in range(10)]
            now = pool.statistics()
            check(now)
            assert (now.submitted, now.queued + now.sent, now.running, now.done) == (12, 12, 2, 0)
            assert now.worker_states == {"starting": 0, "idle": 0, "busy": 2, "retiring": 0}
            gate.open()
            await settle(*held, *waiting)
            assert outcomes(pool.statistics()) == {"succeeded": 12}
            assert pool.statistics().worker_states["idle"] == 2

    async def test_tasks_are_counted_by_how_they_ended(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            await settle(pool.submit(tasks.fail, ValueError("no")))
            (held,) = await occupy(pool, gate)
            waiting = pool.submit(tasks.echo, 2)
            waiting.cancel()
            gate.open()
            await settle(held, waiting)
            assert outcomes(pool.statistics()) == {"succeeded": 2, "failed": 1, "cancelled": 1}

    async def test_a_running_task_that_is_cancelled_or_takes_too_long(self, mailbox: Mailbox) -> None:
        async with self.pool(1, cancel_grace=30) as pool:
            spinning = pool.submit(tasks.spin, mailbox.path)
            assert await mailbox.next() == "started"
            spinning.cancel()
            await settle(spinning)
            with pytest.raises(TaskTimeout):
                await pool.options(timeout=0.05).submit(tasks.spin, mailbox.path)
            now = pool.statistics()
            assert outcomes(now) == {"cancelled": 1, "timed_out": 1}
            assert now.run.count == 2
            assert (now.crashes, now.restarts, now.started) == (0, 0, 1)

    async def test_every_snapshot_in_the_middle_of_work_adds_up(self) -> None:
        async with self.pool(2) as pool, watched() as taken:
            rounds = [[pool.submit(tasks.fail_if_odd, n) for n in range(100)] for _ in range(5)]
            for executions in rounds:
                for execution in executions[::7]:
                    execution.cancel()
                for execution in executions:
                    await settle(execution)
                    taken.append(pool.statistics())
                    check(taken[-1])
            assert taken[-1].done == taken[-1].submitted == 500

    async def test_more_tasks_than_are_kept_before_they_are_sorted_in(self) -> None:
        async with self.pool(2) as pool:
            await settle(*(pool.submit(tasks.echo, number) for number in range(10_000)))
            now = pool.statistics()
            assert outcomes(now) == {"succeeded": 10_000}
            assert now.run.count == now.wait.count == 10_000
            assert 0 < now.run.min <= now.run.p50 <= now.run.p90 <= now.run.p99 <= now.run.max
            assert sum(worker.done for worker in now.workers) == 10_000
            assert now.busy_seconds == pytest.approx(now.run.total)

    async def test_how_long_tasks_wait_and_run(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            (held,) = await occupy(pool, gate)
            behind = pool.submit(tasks.echo, 1)
            start = monotonic()
            await asyncio.sleep(0.1)
            passed = monotonic() - start
            gate.open()
            await settle(held, behind)
            now = pool.statistics()
            assert now.run.max >= passed  # the one at the gate
            assert now.wait.max >= passed  # the one behind it
            assert passed <= now.busy_seconds <= now.capacity_seconds

    async def test_a_worker_says_what_it_runs_and_since_when(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            held = await occupy(pool, gate, 2)
            first = pool.statistics()
            for worker in first.workers:
                assert worker.state == "busy"
                assert worker.current_task is not None
                assert worker.current_task.startswith("pass_gate(")
                assert 0 <= worker.running[0].seconds <= worker.seconds
            assert {worker.worker_id for worker in first.workers} == {e.worker_id for e in held}
            again = pool.statistics()
            assert again.busy_seconds >= first.busy_seconds
            assert 0 < again.busy_fraction <= 1
            gate.open()
            await settle(*held)
            assert all(worker.current_task is None for worker in pool.statistics().workers)

    async def test_a_task_whose_repr_raises_has_its_types_name(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            held = pool.enqueue(tasks.HostileName(gate.path))
            await gate.arrived()
            now = pool.statistics()
            check(now)
            assert now.workers[0].current_task == "HostileName"
            gate.open()
            await held

    async def test_async_tasks_that_overlap_are_all_named(self, gate: Gate) -> None:
        async with self.pool(1, factory=self.make_factory(concurrency=3)) as pool:
            held = [pool.submit(tasks.apass_gate, gate.path, number) for number in range(3)]
            await gate.arrived(3)
            now = pool.statistics()
            check(now)
            assert now.running == 3
            seconds = [task.seconds for task in now.workers[0].running]
            assert seconds == sorted(seconds, reverse=True)
            gate.open()
            await settle(*held)
            now = pool.statistics()
            assert now.capacity_seconds >= now.busy_seconds

    async def test_the_last_numbers_stay_after_the_end(self) -> None:
        async with self.pool(2) as pool:
            await settle(*(pool.submit(tasks.fail_if_odd, number) for number in range(10)))
            before = pool.statistics()
        after = pool.statistics()
        assert outcomes(after) == {"succeeded": 5, "failed": 5}
        assert (after.workers, after.started, after.restarts) == ((), before.started, 0)
        assert (after.run, after.wait) == (before.run, before.wait)
        assert after.bytes_in >= before.bytes_in
        assert pool.statistics().capacity_seconds == after.capacity_seconds

    async def test_what_a_kill_ends_is_counted(self, gate: Gate) -> None:
        pool = self.pool(1)
        held = await occupy(pool, gate)
        held += [pool.submit(tasks.echo, number) for number in range(5)]
        running = pool.statistics().busy_seconds
        pool.kill()
        await settle(*held)
        await pool.shutdown()
        assert all(isinstance(execution.exception(), WorkerKilled) for execution in held)
        now = pool.statistics()
        assert outcomes(now) == {"killed": 6}
        assert (now.crashes, now.restarts) == (0, 0)
        assert now.busy_seconds >= running  # the time of the task that was cut off is not forgotten
        gate.open()

    async def test_workers_that_are_replaced_are_restarts(self) -> None:
        async with self.pool(1, max_tasks_per_worker=2) as pool:
            for number in range(4):
                await pool.submit(tasks.echo, number)
            await pool.recycle()
            await pool.submit(tasks.echo, 5)
            now = pool.statistics()
            assert (now.started, now.restarts, now.crashes) == (now.restarts + 1, now.restarts, 0)
            assert now.restarts >= 2
            assert now.succeeded == 5

    async def test_a_worker_started_anew_after_idleness_is_no_restart(self) -> None:
        async with self.pool(1, idle_timeout=0.0) as pool:
            for number in range(3):
                await pool.submit(tasks.echo, number)
                await eventually(lambda: pool.worker_count == 0)
            now = pool.statistics()
            assert (now.started, now.restarts, now.succeeded) == (3, 0, 3)

    async def test_what_happened_since_an_earlier_snapshot(self) -> None:
        async with self.pool(1) as pool:
            await settle(*(pool.submit(tasks.echo, number) for number in range(5)))
            earlier = pool.statistics()
            await settle(*(pool.submit(tasks.fail_if_odd, number) for number in range(4)))
            now = pool.statistics()
            between = now.since(earlier)
            assert (between.submitted, between.succeeded, between.failed) == (4, 2, 2)
            assert (between.run.count, between.wait.count, between.started) == (4, 4, 0)
            assert between.busy_seconds == pytest.approx(now.busy_seconds - earlier.busy_seconds)
            assert between.workers == now.workers
            assert now.since(now).busy_fraction == 0.0

    async def test_a_single_worker_has_statistics_of_its_own(self) -> None:
        worker = self.worker()
        assert isinstance(worker, Worker)
        async with worker:
            await settle(*(worker.submit(tasks.fail_if_odd, number) for number in range(4)))
            now = worker.statistics()
            assert outcomes(now) == {"succeeded": 2, "failed": 2}
            assert [entry.done for entry in now.workers] == [4]
        assert outcomes(worker.statistics()) == {"succeeded": 2, "failed": 2}

    async def test_a_lease_has_the_statistics_of_its_worker(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            other = await occupy(pool, gate)
            lease = pool.get_worker()
            await settle(*(lease.submit(tasks.fail_if_odd, number) for number in range(3)))
            now = lease.statistics()
            assert outcomes(now) == {"succeeded": 2, "failed": 1}
            assert [worker.worker_id for worker in now.workers] == [lease.worker_id]
            await lease.shutdown()
            assert outcomes(lease.statistics()) == {"succeeded": 2, "failed": 1}
            assert lease.statistics().workers == ()
            assert lease.options(timeout=9).statistics().submitted == 3
            gate.open()
            await settle(*other)
            assert outcomes(pool.statistics()) == {"succeeded": 3, "failed": 1}

    async def test_a_killed_lease_is_counted_once(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            lease = pool.get_worker()
            unused = lease.submit(tasks.echo, 1)
            lease.kill()  # it has not started
            await settle(unused)
            assert outcomes(pool.statistics()) == {"killed": 1}
            lease = pool.get_worker()
            held = [*await occupy(lease, gate), lease.submit(tasks.echo, 1)]
            lease.kill()
            await settle(*held)
            assert outcomes(pool.statistics()) == {"killed": 3}
            gate.open()
            assert await pool.submit(tasks.echo, 2) == 2
            assert outcomes(pool.statistics()) == {"killed": 3, "succeeded": 1}
            assert pool.statistics().crashes == 0

    async def test_options_show_the_statistics_of_the_worker_itself(self) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            assert pool.options(priority=1).statistics().submitted == 1

    async def test_another_thread_is_refused(self) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            refused: list[BaseException] = []

            def ask() -> None:
                try:
                    pool.statistics()
                except RuntimeError as error:
                    refused.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
            assert "event loop" in str(refused[0])

    async def test_a_worker_that_cannot_start_is_counted(self) -> None:
        pool = self.pool(1, factory=self.make_factory(bootstrap=int))
        held = [pool.submit(tasks.echo, number) for number in range(3)]
        await settle(*held)
        now = pool.statistics()
        assert outcomes(now) == {"failed": 3}
        assert now.failed_starts == now.started == 3
        assert (now.crashes, now.capacity_seconds) == (0, 0.0)
        await pool.shutdown()
