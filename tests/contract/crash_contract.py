"""Workers that die: what is lost, and what is not."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import tasks
from support.bounds import fail_after, wait_exit
from support.gates import Gate, Log, Mailbox

from contract.base import Context, occupy
from offloop import StatusError, WorkerCrashed, WorkerStartError
from offloop.contexts import oom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class CrashContract(Context):
    """Contexts whose workers are processes."""

    async def test_each_lease_of_a_worker_that_crashed_says_so_until_it_is_ended_itself(self) -> None:
        async with self.pool(1) as pool:
            first, second = pool.get_worker(), pool.get_worker()
            assert await first.submit(os.getpid) == await second.submit(os.getpid)
            with pytest.raises(WorkerCrashed):
                await first.submit(tasks.exit_process, 3)
            assert await first.shutdown() == 3
            assert repr(first).endswith("shut down>")
            assert repr(second).endswith("crashed>")
            with pytest.raises(StatusError, match="has crashed"):
                second.submit(tasks.echo, 1)

    @pytest.mark.parametrize("whose", ["lease", "single"])
    async def test_a_map_that_waits_for_its_input_hears_that_its_worker_crashes(self, whose: str) -> None:
        async def numbers() -> AsyncIterator[int]:
            yield 0
            await asyncio.Event().wait()

        async with self.pool(1) as pool, self.worker() as single, fail_after(20):
            worker = pool.get_worker() if whose == "lease" else single
            results = worker.map(tasks.echo, numbers())
            assert await anext(results) == 0
            waiting = asyncio.ensure_future(anext(results))
            with pytest.raises(WorkerCrashed):
                await worker.submit(tasks.exit_process, 3)
            with pytest.raises(StatusError, match="has crashed"):
                await waiting

    @pytest.mark.parametrize("code", [0, 7])
    async def test_a_task_that_exits_its_process_is_a_crash(self, code: int) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            with pytest.raises(WorkerCrashed) as caught:
                await pool.submit(tasks.exit_process, code)
        assert (caught.value.pid, caught.value.exit_code, caught.value.signal) == (pid, code, None)
        assert "exit_process" in str(caught.value.task)

    @pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGABRT"])
    async def test_a_task_killed_by_a_signal_is_a_crash_that_names_it(self, name: str) -> None:
        number = signal.Signals[name]
        async with self.pool(1) as pool:
            with pytest.raises(WorkerCrashed, match=name) as caught:
                await pool.submit(tasks.signal_self, int(number))
            assert (caught.value.exit_code, caught.value.signal) == (-number, name)
            assert await pool.submit(tasks.echo, 1) == 1

    async def test_a_segmentation_fault_leaves_its_stack(self) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(WorkerCrashed, match="SIGSEGV") as caught:
                await pool.submit(tasks.segfault)
        assert caught.value.signal == "SIGSEGV"
        assert "segfault" in (caught.value.stack or "")
        assert "offloop/child" not in caught.value.stack, "those frames tell the user nothing"
        assert any("segfault" in note for note in caught.value.__notes__), "a traceback shows it"

    async def test_the_last_words_on_stderr_are_in_the_report(self) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(WorkerCrashed) as caught:
                await pool.submit(tasks.speak_and_exit, "last words\n")
        assert "last words" in caught.value.output
        assert not caught.value.out_of_memory

    async def test_a_stack_of_deep_recursion_leaves_the_last_words_alone(self) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(WorkerCrashed) as caught:
                await pool.submit(tasks.segfault_deep_down, "last words\n")
        assert caught.value.output == "last words\n"
        assert caught.value.stack is not None
        assert caught.value.stack.count("in segfault_deep_down") > 50

    async def test_the_peak_memory_is_the_workers_own(self) -> None:
        ballast = bytearray(b"x") * (300 << 20)  # in this process, which forks no worker
        async with self.pool(1) as pool:
            peaks = []
            for size in (200 << 20, 0):
                with pytest.raises(WorkerCrashed) as caught:
                    await pool.submit(tasks.allocate_and_exit, size)
                peaks.append(caught.value.peak_rss)
        del ballast
        large, small = peaks
        assert 200 << 20 < large < 300 << 20
        assert 0 < small < 150 << 20
        assert "peak memory" in str(caught.value)

    @pytest.mark.parametrize(
        ("risen", "verdict"), [(True, True), (False, False), (None, None)], ids=["rose", "did not", "unknown"]
    )
    async def test_the_kernels_counter_tells_whether_the_oom_killer_did_it(
        self, risen: bool | None, verdict: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(oom, "ROOT", tmp_path)
        counter = tmp_path / "proc" / "vmstat"
        counter.parent.mkdir()
        counter.write_text("oom_kill 4\n")
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            counter.write_text("oom_kill 5\n" if risen else "oom_kill 4\n")
            if risen is None:
                counter.unlink()
            with pytest.raises(WorkerCrashed) as caught:
                await pool.submit(tasks.signal_self, int(signal.SIGKILL))
        assert caught.value.out_of_memory is verdict
        assert ("OOM killer" in str(caught.value)) is bool(verdict)

    async def test_the_oom_killer_is_not_blamed_for_an_exit(self) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(WorkerCrashed) as caught:
                await pool.submit(tasks.exit_process, 7)
        assert caught.value.out_of_memory is False

    async def test_a_crash_report_survives_pickling(self) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(WorkerCrashed) as caught:
                await pool.submit(tasks.exit_process, 7)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert type(copy) is WorkerCrashed
        assert (copy.args, copy.pid, copy.exit_code) == (caught.value.args, caught.value.pid, 7)
        assert copy.__dict__ == caught.value.__dict__

    async def test_a_task_behind_a_crash_runs_elsewhere(self, gate: Gate) -> None:
        async with self.pool(1) as pool:
            crash = pool.submit(tasks.gate_then_exit, gate.path, 1)
            (first,) = await gate.arrived()
            behind = [pool.submit(tasks.identity) for _ in range(5)]
            gate.open()
            with pytest.raises(WorkerCrashed):
                await crash
            identities = set(await asyncio.gather(*behind))
        assert len(identities) == 1
        assert first not in identities

    async def test_a_crash_leaves_tasks_running_on_other_workers_alone(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            (held,) = await occupy(pool, gate)
            with pytest.raises(WorkerCrashed):
                await pool.submit(tasks.exit_process, 1)
            gate.open()
            assert await held == 0

    async def test_tasks_that_keep_crashing_never_take_the_pool_with_them(self) -> None:
        async with self.pool(2) as pool:
            mixed = [
                pool.submit(tasks.exit_process, 1) if n % 2 else pool.submit(tasks.echo, n) for n in range(12)
            ]
            outcomes = await asyncio.gather(*mixed, return_exceptions=True)
            assert await pool.submit(tasks.echo, "alive") == "alive"
        assert [type(outcome) for outcome in outcomes] == [int, WorkerCrashed] * 6

    async def test_a_crashing_task_runs_once(self, log: Log) -> None:
        async with self.pool(2) as pool:
            with pytest.raises(WorkerCrashed):
                await pool.submit(tasks.log_and_crash, log.path)
        assert log.lines() == ["ran"]

    async def test_retries_run_a_crashed_task_again(self, log: Log) -> None:
        async with self.pool(1) as pool:
            assert await pool.options(retries=1).submit(tasks.crash_at_first, log.path) == 2
        assert log.lines() == ["1", "2"]

    async def test_retries_are_bounded(self, log: Log) -> None:
        async with self.pool(1) as pool:
            with pytest.raises(WorkerCrashed):
                await pool.options(retries=2).submit(tasks.log_and_crash, log.path)
            assert await pool.submit(tasks.echo, 1) == 1
        assert log.lines() == ["ran"] * 3

    async def test_a_worker_killed_while_idle_goes_unnoticed(self) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.to_thread(wait_exit, pid, 20)
            assert await pool.submit(os.getpid) != pid

    async def test_a_task_that_races_with_the_death_of_an_idle_worker_runs_elsewhere(self) -> None:
        async with self.pool(1) as pool:
            pid = await pool.submit(os.getpid)
            os.kill(pid, signal.SIGKILL)
            assert await pool.submit(os.getpid) != pid

    async def test_a_broadcast_leaves_out_those_that_died_before_they_began(self, gate: Gate) -> None:
        async with self.pool(2) as pool:
            held = await occupy(pool, gate, 2)
            gate.open()
            await asyncio.gather(*held)
            one, other = await pool.broadcast(os.getpid)
            os.kill(one, signal.SIGKILL)
            assert await pool.broadcast(os.getpid) == [other]
            os.kill(other, signal.SIGKILL)
            assert await pool.broadcast(os.getpid) == []

    async def test_a_broadcast_fails_by_a_worker_that_died_of_it(self) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            with pytest.raises(WorkerCrashed, match="while running"):
                await pool.broadcast(tasks.exit_process, 3)

    async def test_a_broadcast_that_is_cancelled_as_it_begins_goes_on_nowhere(self) -> None:
        async with self.pool(1) as pool:
            await pool.submit(tasks.echo, 1)
            broadcast = asyncio.ensure_future(pool.broadcast(time.sleep, 300))
            await asyncio.sleep(0)
            broadcast.cancel()
            with pytest.raises(asyncio.CancelledError):
                await broadcast
            assert await pool.submit(tasks.echo, 2) == 2

    @pytest.mark.parametrize("retries", [0, 3])
    async def test_a_worker_of_its_own_ends_with_its_crash(self, gate: Gate, retries: int) -> None:
        worker = self.worker()
        crash = worker.options(retries=retries).submit(tasks.gate_then_exit, gate.path, 7)
        await gate.arrived()
        behind = worker.submit(tasks.echo, 1)
        gate.open()
        with pytest.raises(WorkerCrashed) as caught:
            await crash
        assert "gate_then_exit" in str(caught.value.task)
        with pytest.raises(WorkerCrashed) as caught:
            await behind
        assert caught.value.task is None
        assert not worker.is_running()
        with pytest.raises(StatusError):
            worker.submit(tasks.echo, 1)
        assert await worker.shutdown() == 7

    async def test_a_killed_worker_gives_the_signal_as_its_code(self, gate: Gate) -> None:
        worker = self.worker()
        (held,) = await occupy(worker, gate)
        worker.kill()
        await asyncio.wait([held])
        held.exception()
        assert await worker.shutdown() == -signal.SIGKILL

    async def test_the_environment_dies_with_a_crashed_worker(self) -> None:
        async with self.pool(1) as pool:
            await pool.enqueue(tasks.Remember("key", "value"))
            with pytest.raises(WorkerCrashed):
                await pool.submit(tasks.exit_process, 1)
            assert await pool.enqueue(tasks.Recall("key")) is None

    async def test_an_argument_that_kills_the_worker_while_loading_fails_alone(self) -> None:
        bomb = tasks.FailsOnLoad(os._exit, 3)
        async with self.pool(1) as pool:
            bad, good = pool.submit(tasks.echo, bomb), pool.submit(tasks.echo, "good")
            with pytest.raises(WorkerCrashed):
                await bad
            assert await good == "good"

    async def test_a_bootstrap_that_ends_its_process_is_a_start_error(self) -> None:
        factory = self.make_factory(bootstrap=tasks.exiting_bootstrap)
        async with self.pool(1, factory=factory) as pool:
            with pytest.raises(WorkerStartError, match="with exit code 3\n\nthere is no licence") as caught:
                await pool.submit(tasks.echo, 1)
        assert "there is no licence" in caught.value.traceback

    async def test_a_task_may_fork(self) -> None:
        async with self.worker() as worker:
            before = await worker.submit(os.getpid)
            assert await worker.submit(tasks.fork_once) == 5
            assert await worker.submit(os.getpid) == before

    async def test_cancel_interrupts_a_blocking_call(self, gate: Gate, mailbox: Mailbox) -> None:
        async with self.pool(1, cancel_grace=10) as pool:
            execution = pool.submit(tasks.gate_and_tell, gate.path, mailbox.path)
            (before,) = await gate.arrived()
            execution.cancel()
            with pytest.raises(asyncio.CancelledError):
                await execution
            assert await mailbox.next() == "TaskCancelled"
            assert await pool.submit(tasks.identity) == before

    async def test_a_task_that_ignores_its_cancellation_has_its_worker_replaced(self, gate: Gate) -> None:
        async with self.pool(1, cancel_grace=0.1) as pool:
            stubborn = pool.submit(tasks.ignore_cancellation, gate.path)
            (before,) = await gate.arrived()
            behind = pool.submit(os.getpid)
            stubborn.cancel()
            assert await behind != before
            assert stubborn.cancelled()
            assert wait_exit(before, 20)

    async def test_kill_of_a_pool_ends_its_busy_processes(self, gate: Gate) -> None:
        pool = self.pool(2)
        held = [pool.submit(tasks.pass_gate, gate.path) for _ in range(2)]
        pids = await gate.arrived(2)
        pool.kill()
        await asyncio.gather(*held, return_exceptions=True)
        await pool.shutdown()
        assert all(wait_exit(pid, 20) for pid in pids)

    async def test_a_key_moves_to_another_worker_when_its_own_has_died(self) -> None:
        async with self.pool(2) as pool:
            keyed = pool.options(key="a")
            first = await keyed.submit(os.getpid)
            with pytest.raises(WorkerCrashed):
                await keyed.submit(tasks.exit_process, 1)
            second = await keyed.submit(os.getpid)
            assert second != first
            assert await keyed.submit(os.getpid) == second
