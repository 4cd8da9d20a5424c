"""Statistics: what only workers with a process, or with pickles, can say."""

from __future__ import annotations

import os

from support import tasks
from support.gates import Gate, Log

from contract.base import Context
from contract.statistics_contract import outcomes, settle


class ProcessStatisticsContract(Context):
    """Processes, bytes and crashes."""

    async def test_a_worker_says_which_process_it_is_and_how_large(self) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            (worker,) = pool.statistics().workers
            assert worker.pid == pid
            assert worker.rss is not None
            assert worker.rss > 1_000_000

    async def test_what_travels_is_counted_in_bytes(self) -> None:
        small, large = b"x" * 10_000, b"y" * 1_000_000
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            for data in small, large:
                before = pool.statistics()
                assert await pool.submit(tasks.echo, data) == data
                between = pool.statistics().since(before)
                for count in between.bytes_out, between.bytes_in:
                    assert len(data) <= count <= len(data) + 5_000
            now = pool.statistics()
            assert now.workers[0].bytes_out == now.bytes_out
        assert pool.statistics().bytes_in >= now.bytes_in

    async def test_crashes_are_counted_and_what_comes_in_their_place(self) -> None:
        async with self.pool(1) as pool:
            for _ in range(3):
                await settle(pool.submit(tasks.exit_process, 3))
            await pool.submit(tasks.echo, 1)
            now = pool.statistics()
            assert outcomes(now) == {"crashed": 3, "succeeded": 1}
            assert (now.crashes, now.restarts, now.started, now.failed_starts) == (3, 3, 4, 0)

    async def test_a_task_that_is_tried_again_is_one_task(self, log: Log) -> None:
        async with self.pool(1) as pool:
            assert await pool.options(retries=2).submit(tasks.crash_at_first, log.path) == 2
            now = pool.statistics()
            assert outcomes(now) == {"succeeded": 1}
            assert (now.submitted, now.crashes, now.restarts) == (1, 1, 1)

    async def test_a_worker_that_was_killed_for_going_on_is_no_crash(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=0.05) as pool:
            held = pool.submit(tasks.ignore_cancellation, gate.path)
            await gate.arrived()
            held.cancel()
            await settle(held)
            await pool.submit(tasks.echo, 1)
            now = pool.statistics()
            assert outcomes(now) == {"cancelled": 1, "succeeded": 1}
            assert (now.crashes, now.restarts) == (0, 1)

    async def test_the_time_of_a_task_that_died_is_not_forgotten(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            held = pool.submit(tasks.gate_then_exit, gate.path, 1)
            await gate.arrived()
            before = pool.statistics().busy_seconds
            assert before > 0
            gate.open()
            await settle(held)
            now = pool.statistics()
            assert now.busy_seconds >= before
            assert now.run.count == 0

    async def test_what_cannot_be_pickled_has_failed_and_did_not_run(self) -> None:
        async with self.pool(1) as pool:
            await settle(pool.submit(tasks.echo, tasks.Stubborn()), pool.submit(tasks.new_lock))
            now = pool.statistics()
            assert outcomes(now) == {"failed": 2}
            assert now.run.count == 1  # the one whose result could not be pickled

    async def test_a_worker_that_died_unseen_has_no_size(self) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            os.kill(pid, 9)
            while True:  # the event loop has no turn meanwhile, so the pool can't know
                (worker,) = pool.statistics().workers
                if worker.rss is None:
                    break
            assert worker.pid == pid
