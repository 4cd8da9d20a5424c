"""A worker's environment, and the bootstrap that prepares it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import tasks
from support.bounds import eventually, fail_after
from support.gates import Gate, Log, Mailbox

from contract.base import Context, occupy
from offloop import Worker, WorkerStartError, starts


class EnvironmentContract(Context):
    """What outlives a task, and dies with its worker."""

    async def test_an_entry_persists_from_task_to_task(self) -> None:
        async with self.worker() as worker:
            await worker.enqueue(tasks.Remember("key", "value"))
            assert await worker.enqueue(tasks.Recall("key")) == "value"
            assert [await worker.enqueue(tasks.Count()) for _ in range(3)] == [1, 2, 3]

    async def test_each_worker_has_an_environment_of_its_own(self) -> None:
        async with self.worker() as worker, self.worker() as other:
            await worker.enqueue(tasks.Remember("key", "value"))
            assert await other.enqueue(tasks.Recall("key")) is None

    async def test_a_failed_task_leaves_the_environment_as_it_is(self) -> None:
        async with self.worker() as worker:
            await worker.enqueue(tasks.Remember("key", "value"))
            with pytest.raises(ValueError, match="broken"):
                await worker.submit(tasks.fail, ValueError("broken"))
            assert await worker.enqueue(tasks.Recall("key")) == "value"

    async def test_entries_are_deleted_when_the_worker_shuts_down(self, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            await worker.enqueue(tasks.Remember("key", "value", on_delete=tasks.Tell(mailbox.path)))
            assert mailbox.drain() == []
        assert mailbox.drain() == ["value"]

    @pytest.mark.parametrize("ttl", [1e10, 1e300])
    async def test_an_entry_may_live_longer_than_a_system_can_wait(self, ttl: float) -> None:
        async with self.worker() as worker:
            identity = await worker.submit(tasks.identity)
            for _ in range(2):  # the second comes when the worker has waited
                await worker.enqueue(tasks.Remember("key", "value", ttl=ttl))
                assert await worker.enqueue(tasks.Recall("key")) == "value"
            await worker.submit(tasks.aecho, 1)  # it has an event loop from now on
            assert await worker.enqueue(tasks.Recall("key")) == "value"
            assert await worker.submit(tasks.identity) == identity

    async def test_an_idle_worker_frees_an_expired_entry_by_itself_and_once(self, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            await worker.enqueue(tasks.Remember("key", "value", ttl=0.2, on_delete=tasks.Tell(mailbox.path)))
            async with fail_after(20):
                assert await mailbox.next() == "value"
            assert await worker.enqueue(tasks.Recall("key")) is None
        assert mailbox.drain() == []

    async def test_a_callback_that_fails_does_not_stop_the_worker(self, mailbox: Mailbox) -> None:
        async with self.worker() as worker:
            bad = tasks.Remember("a", "a", ttl=0.1, on_delete=tasks.Tell("/nonexistent/mailbox"))
            good = tasks.Remember("b", "b", ttl=0.2, on_delete=tasks.Tell(mailbox.path))
            await asyncio.gather(worker.enqueue(bad), worker.enqueue(good))
            async with fail_after(20):
                assert await mailbox.next() == "b"
            assert await worker.submit(tasks.echo, 1) == 1

    async def test_the_environment_may_be_a_class_of_the_users(self) -> None:
        async with self.worker(environment=tasks.CustomEnvironment) as worker:
            assert await worker.enqueue(tasks.EnvironmentType()) == "CustomEnvironment"

    async def test_the_environment_may_come_from_a_factory(self) -> None:
        async with self.worker(environment=tasks.prepared_environment) as worker:
            assert await worker.enqueue(tasks.Recall("prepared")) == "yes"

    async def test_the_environment_of_each_worker_comes_from_a_call_of_its_own(self, gate: Gate) -> None:
        factory = self.make_factory(environment=tasks.prepared_environment)
        async with self.pool(2, factory=factory) as pool:
            held = await occupy(pool, gate, 2)
            gate.open()
            await asyncio.gather(*held)
            await pool.enqueue(tasks.Remember("key", "value"))
            assert sorted(await pool.broadcast(tasks.Recall("key")), key=str) == [None, "value"]
            assert sorted(await pool.broadcast(SimpleNamespace(run=len))) == [1, 2]


class BootstrapContract(Context):
    """What runs before the first task."""

    @pytest.mark.parametrize(
        ("bootstrap", "kind"),
        [(tasks.bootstrap, "sync"), (tasks.async_bootstrap, "async")],
        ids=["sync", "async"],
    )
    async def test_a_function_prepares_the_environment(self, bootstrap: object, kind: str) -> None:
        async with self.worker(bootstrap=bootstrap) as worker:
            assert await worker.enqueue(tasks.Recall("booted")) == kind

    @pytest.mark.parametrize("kind", [str, Path], ids=["str", "Path"])
    async def test_a_file_runs_once_before_the_first_task(self, kind: type, tmp_path: Path, log: Log) -> None:
        file = tmp_path / "bootstrap.py"
        file.write_text(f"with open({log.path!r}, 'a') as log:\n    log.write('booted\\n')\n")
        async with self.worker(bootstrap=kind(file)) as worker:
            await worker.submit(tasks.append_line, log.path, "task")
            await worker.submit(tasks.append_line, log.path, "task")
        assert log.lines() == ["booted", "task", "task"]

    async def test_a_local_function_prepares_the_environment(self) -> None:
        key = "local"

        def prepare(environment: dict[str, str]) -> None:
            environment[key] = "prepared"

        async with self.worker(bootstrap=prepare) as worker:
            assert await worker.enqueue(tasks.Recall("local")) == "prepared"

    async def test_every_worker_of_a_pool_is_prepared(self, gate: Gate, log: Log) -> None:
        factory = self.make_factory(bootstrap=tasks.LoggingBootstrap(log.path))
        async with self.pool(2, factory=factory) as pool:
            held = await occupy(pool, gate, 2)
            gate.open()
            await asyncio.gather(*held)
        assert log.lines() == ["booted", "booted"]

    async def test_a_bootstrap_that_raises_is_a_start_error_with_its_traceback(self) -> None:
        async with self.worker(bootstrap=tasks.broken_bootstrap) as worker:
            with pytest.raises(WorkerStartError, match="the bootstrap is broken") as caught:
                await worker.submit(tasks.echo, 1)
        assert "in broken_bootstrap" in caught.value.traceback

    async def test_a_file_that_is_not_there_is_a_start_error_that_names_it(self, tmp_path: Path) -> None:
        async with self.worker(bootstrap=tmp_path / "missing.py") as worker:
            with pytest.raises(WorkerStartError, match=r"missing\.py"):
                await worker.submit(tasks.echo, 1)

    async def test_a_file_with_a_syntax_error_is_a_start_error_that_names_it(self, tmp_path: Path) -> None:
        file = tmp_path / "wrong.py"
        file.write_text("def (:\n")
        async with self.worker(bootstrap=file) as worker:
            with pytest.raises(WorkerStartError, match=r"wrong\.py"):
                await worker.submit(tasks.echo, 1)

    async def test_a_map_ends_with_the_error_of_workers_that_cannot_start(self) -> None:
        def fail(environment: Any) -> None:
            raise ValueError("the bootstrap is broken")

        async with self.pool(1, factory=self.make_factory(bootstrap=fail)) as pool:
            with pytest.raises(WorkerStartError, match="the bootstrap is broken"):
                await pool.map(tasks.echo, range(1000), return_exceptions=True)
            assert pool.statistics().failed_starts <= 6, "it is not tried again for each item"

    async def test_three_failed_starts_fail_what_waits_and_a_good_one_heals_the_pool(
        self, tmp_path: Path, log: Log
    ) -> None:
        flag = tmp_path / "flag"
        flag.touch()
        factory = self.make_factory(bootstrap=tasks.FlaggedBootstrap(log.path, str(flag)))
        async with self.pool(1, factory=factory) as pool:
            waiting = [pool.submit(tasks.echo, number) for number in range(3)]
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [WorkerStartError] * 3
            assert log.lines() == ["booted"] * 3
            flag.unlink()
            assert await pool.submit(tasks.echo, "healed") == "healed"

    async def test_a_pool_goes_on_with_the_workers_it_has_until_more_can_be_started(
        self, tmp_path: Path, log: Log, make_gate: Callable[[], Gate], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(starts, "PAUSE", 0.01)
        flag = tmp_path / "flag"
        factory = self.make_factory(bootstrap=tasks.FlaggedBootstrap(log.path, str(flag)))
        async with self.pool(2, factory=factory) as pool:

            async def go_on() -> None:
                gate = make_gate()
                held = await occupy(pool, gate)
                flag.touch()
                waiting = [pool.submit(tasks.echo, number) for number in range(3)]
                await eventually(lambda: len(log.lines()) > 4)
                assert not any(execution.done() for execution in waiting)
                gate.open()
                assert await asyncio.gather(*held, *waiting) == [0, 0, 1, 2]
                flag.unlink()

            with pytest.warns(RuntimeWarning, match=r"goes on with 1 worker\(s\), .*the flag is up"):
                await go_on()
            held = await occupy(pool, gate := make_gate(), 2)
            gate.open()
            await asyncio.gather(*held)

    async def test_a_start_that_fails_only_once_fails_no_task(self, log: Log) -> None:
        fails_once = tasks.FailsOnce(log.path)
        async with self.pool(1, factory=self.make_factory(bootstrap=fails_once)) as pool:
            assert await pool.submit(tasks.echo, 1) == 1
        assert log.lines() == ["booted"] * 2

    async def test_nor_does_one_for_a_lease_end_it(self, log: Log) -> None:
        fails_once = tasks.FailsOnce(log.path)
        async with self.pool(1, factory=self.make_factory(bootstrap=fails_once)) as pool:
            async with pool.get_worker() as lease:
                assert await lease.submit(tasks.echo, 1) == 1
                await lease.enqueue(tasks.Remember("key", "value"))
                assert await lease.enqueue(tasks.Recall("key")) == "value"
            counted = pool.statistics()
            assert (counted.started, counted.restarts, counted.failed_starts) == (2, 1, 1)
        assert log.lines() == ["booted"] * 2

    @pytest.mark.parametrize("others", [0, 1])
    async def test_what_waits_for_a_lease_fails_after_three_starts_and_the_next_task_tries_again(
        self, tmp_path: Path, log: Log, gate: Gate, others: int
    ) -> None:
        flag = tmp_path / "flag"
        factory = self.make_factory(bootstrap=tasks.FlaggedBootstrap(log.path, str(flag)))

        async def fail(lease: Worker) -> None:
            flag.touch()
            waiting = [lease.submit(tasks.echo, number) for number in range(3)]
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [WorkerStartError] * 3
            flag.unlink()

        async with self.pool(1 + others, factory=factory) as pool:
            held = await occupy(pool, gate, others)
            async with pool.get_worker() as lease:
                with pytest.warns(RuntimeWarning) if others else nullcontext():
                    await fail(lease)
                assert log.lines() == ["booted"] * (3 + others)
                assert lease.is_running()
                assert await lease.submit(tasks.echo, "healed") == "healed"
            gate.open()
            await asyncio.gather(*held)

    async def test_a_broadcast_leaves_out_workers_that_do_not_start(self) -> None:
        async with self.pool(1, factory=self.make_factory(bootstrap=tasks.broken_bootstrap)) as pool:
            execution = pool.submit(tasks.echo, 1)
            await asyncio.sleep(0)
            assert pool.worker_count == 1
            assert await pool.broadcast(tasks.echo, 2) == []
            with pytest.raises(WorkerStartError):
                await execution
