"""What a worker keeps in its environment is closed when it goes, however it goes."""

from __future__ import annotations

import asyncio

import pytest
from support import tasks
from support.bounds import eventually, fail_after
from support.gates import Gate, Mailbox

from contract.base import Context
from offloop import WorkerPool, handle
from offloop.child import overlap

#: How an entry may go while its worker lives on: the task that makes it go, and the entry's own terms.
WAYS = {
    "deleted": (tasks.Remember("key", None), {}),
    "replaced": (tasks.Remember("key", "other"), {}),
    "cleared": (tasks.Clear(), {}),
    "expired": (tasks.Echo("nothing to do with it"), {"ttl": 0.1}),
}


class ResourceContract(Context):
    """`on_delete`, sync and async, and the bounds on it."""

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("kind", [tasks.Tell, tasks.ATell], ids=["sync", "async"])
    @pytest.mark.parametrize("concurrency", [1, 2])
    async def test_it_is_closed_when_its_entry_goes(
        self, way: str, kind: type[tasks.Tell], concurrency: int, mailbox: Mailbox
    ) -> None:
        task, terms = WAYS[way]
        async with self.worker(concurrency=concurrency) as worker:
            await worker.enqueue(tasks.Remember("key", "value", on_delete=kind(mailbox.path), **terms))
            await worker.enqueue(task)
            async with fail_after(20):
                assert await mailbox.next() == "value"
            assert await worker.submit(tasks.echo, 1) == 1
        assert mailbox.drain() == [], "once"

    @pytest.mark.parametrize("end", ["shutdown", "recycled", "idle", "most tasks"])
    @pytest.mark.parametrize("kind", [tasks.Tell, tasks.ATell], ids=["sync", "async"])
    async def test_it_is_closed_when_its_worker_ends(
        self, end: str, kind: type[tasks.Tell], mailbox: Mailbox
    ) -> None:
        options = {"idle": {"idle_timeout": 0.05}, "most tasks": {"max_tasks_per_worker": 1}}.get(end, {})
        pool: WorkerPool = self.pool(1, **options)
        await pool.enqueue(tasks.Remember("key", "value", on_delete=kind(mailbox.path)))
        if end == "shutdown":
            await pool.shutdown()
            assert mailbox.drain() == ["value"], "it waits for them"
            return
        if end == "recycled":
            await pool.recycle()
        async with fail_after(20):
            assert await mailbox.next() == "value"
        await pool.shutdown()
        assert mailbox.drain() == []

    @pytest.mark.parametrize("kind", [tasks.PassGate, tasks.APassGate], ids=["sync", "async"])
    async def test_shutdown_waits_until_all_is_closed(self, kind: type[tasks.PassGate], gate: Gate) -> None:
        pool = self.pool(1)
        await pool.enqueue(tasks.Remember("key", "value", on_delete=kind(gate.path)))
        closed = asyncio.ensure_future(pool.shutdown())
        await gate.arrived()
        assert not closed.done()
        gate.open()
        assert await closed == 0

    async def test_shutdown_does_not_wait_for_ever(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(handle, "STOP_GRACE", 0.2)
        pool = self.pool(1)
        await pool.enqueue(tasks.Remember("key", "value", on_delete=tasks.PassGate(gate.path)))
        with pytest.warns(RuntimeWarning, match=r"did not end within 0\.2 s"):
            async with fail_after(20):  # the gate stays closed
                assert await pool.shutdown() == -9
        gate.open()

    async def test_a_pool_goes_on_when_a_worker_that_idles_out_hangs(
        self, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handle, "STOP_GRACE", 0.2)
        async with self.pool(1, idle_timeout=0.01) as pool:
            await pool.enqueue(tasks.Remember("key", "value", on_delete=tasks.PassGate(gate.path)))
            with pytest.warns(RuntimeWarning, match="did not end"):
                await eventually(lambda: pool.worker_count == 0)
            assert await pool.submit(tasks.echo, 1) == 1
            gate.open()

    async def test_an_async_callback_that_hangs_does_not_hold_up_a_worker_for_ever(
        self, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(overlap, "ON_DELETE_GRACE", 0.1)
        async with self.worker(bootstrap=tasks.be_impatient) as worker:
            hangs = tasks.APassGate(gate.path)
            await worker.enqueue(tasks.Remember("a", "a", ttl=0.05, on_delete=hangs))
            await gate.arrived()
            async with fail_after(20):  # the gate stays closed
                assert await worker.submit(tasks.echo, 1) == 1
                await worker.enqueue(tasks.Remember("b", "b", on_delete=hangs))
                assert await worker.shutdown() == 0
