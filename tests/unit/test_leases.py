"""Leases over fake workers: their ends, in the order of events that the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakelink import FakeLink, FakeMaker, Job, ManualLoop

from offloop.dispatcher import Dispatcher
from offloop.errors import WorkerKilled, WorkerStartError
from offloop.execution import Execution
from offloop.lease import LeasedWorker
from offloop.policy import Policy
from offloop.scheduling import roster
from offloop.scheduling.state import Limits


class Owner:
    """Whom the dispatcher works for."""


class FakePool:
    """A dispatcher whose workers go on when the test says so."""

    def __init__(self, loop: ManualLoop, max_workers: int) -> None:
        self.loop = loop
        self.maker = FakeMaker(loop)
        self.owner = Owner()
        self.dispatcher = Dispatcher(self.maker, Policy(Limits(max_workers), cancel_grace=1.0), self.owner)

    def close(self) -> None:
        self.loop.do(lambda: self.dispatcher.close(cancel_pending=False))
        self.run_dry()
        assert self.dispatcher.ended_for_good

    def lease(self) -> LeasedWorker:
        lease: LeasedWorker = self.loop.do(lambda: LeasedWorker(self.dispatcher))
        return lease

    def enqueue(self, **options: Any) -> Execution[Any]:
        execution: Execution[Any] = self.loop.do(lambda: self.dispatcher.enqueue(Job("return"), options))
        return execution

    def enqueue_on(self, lease: LeasedWorker, count: int = 1) -> list[Execution[Any]]:
        return [self.loop.do(lambda: lease.enqueue(Job("return"))) for _ in range(count)]

    def shut_down(self, lease: LeasedWorker, *, cancel_pending: bool = False) -> asyncio.Task[int]:
        begin: Callable[[], Any] = lambda: self.loop.create_task(  # noqa: E731
            lease.shutdown(cancel_pending=cancel_pending)
        )
        ending: asyncio.Task[int] = self.loop.do(begin)
        return ending

    @property
    def link(self) -> FakeLink:
        """The first worker."""
        self.loop.settle()
        return next(link for link in self.maker.links if link.pid == 1)

    def fail_to_start(self) -> None:
        link = self.link
        link.is_alive = False
        self.loop.do(link.notice_death)

    def recycle(self) -> None:
        """As `WorkerPool.recycle` begins."""
        scheduler = self.dispatcher.scheduler
        self.loop.do(lambda: scheduler.replace(scheduler.workers[1]))
        self.loop.do(self.dispatcher.schedule_turn)

    def run_dry(self) -> None:
        """Let everything happen that is under way."""
        for _ in range(1_000):
            self.loop.settle()
            if not any(link.go_on() for link in self.maker.links):
                return
        raise AssertionError("it never comes to rest")


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    loop = ManualLoop()
    yield loop
    loop.close()


@pytest.fixture
def pool(loop: ManualLoop) -> Iterator[FakePool]:
    """One worker at the most."""
    pool = FakePool(loop, 1)
    yield pool
    pool.close()


def test_shutdown_waits_though_the_worker_has_yet_to_come_to_its_turn_to_start(
    loop: ManualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "MOST_AT_ONCE", 1)
    pool = FakePool(loop, 4)
    leases = [pool.lease() for _ in range(4)]

    async def use(lease: LeasedWorker) -> bool:
        execution = lease.enqueue(Job("return"))
        await lease.shutdown()
        return execution.done()

    endings = loop.do(lambda: [loop.create_task(use(lease)) for lease in leases])
    pool.run_dry()
    assert [ending.result() for ending in endings] == [True] * 4
    pool.close()


def test_shutdown_with_cancel_pending_cancels_what_was_sent_in_advance(pool: FakePool) -> None:
    pool.enqueue()
    pool.run_dry()  # it is known to be short from now on
    lease = pool.lease()
    first, *others = pool.enqueue_on(lease, 5)
    pool.link.begin()
    assert len(pool.link.inbox) == len(others)
    ending = pool.shut_down(lease, cancel_pending=True)
    pool.run_dry()
    assert not first.cancelled()
    assert all(execution.cancelled() for execution in others)
    assert ending.done()


@pytest.mark.parametrize("failures", [2, 3])
@pytest.mark.parametrize("how", ["shutdown", "recycle"])
def test_tasks_of_a_lease_that_ends_while_its_worker_starts_have_three_tries(
    pool: FakePool, how: str, failures: int
) -> None:
    lease = pool.lease()
    (execution,) = pool.enqueue_on(lease)
    pool.loop.settle()
    if how == "shutdown":
        ending = pool.shut_down(lease)
    else:
        pool.recycle()
    for _ in range(failures):
        assert not execution.done()
        pool.fail_to_start()
    pool.run_dry()
    if failures < 3:
        assert execution.exception() is None
    else:
        assert isinstance(execution.exception(), WorkerStartError)
    assert how == "recycle" or ending.done()
    lease.release()


def test_a_lease_not_used_lives_on_where_its_worker_did_not_start_and_was_to_be_replaced(
    pool: FakePool,
) -> None:
    lease = pool.lease()
    (execution,) = pool.enqueue_on(lease)
    pool.loop.settle()
    pool.recycle()
    pool.loop.do(execution.cancel)
    pool.fail_to_start()
    pool.loop.settle()
    assert lease.is_running()
    (again,) = pool.enqueue_on(lease)
    pool.run_dry()
    assert again.exception() is None
    lease.release()


@pytest.mark.parametrize("retries", [0, 1])
def test_killing_a_lease_leaves_a_task_of_the_pool_its_retries(pool: FakePool, retries: int) -> None:
    pool.enqueue()
    pool.run_dry()
    lease = pool.lease()
    execution = pool.enqueue(retries=retries)
    pool.loop.settle()
    pool.link.begin()
    pool.loop.do(lease.kill)
    pool.run_dry()
    if retries:
        assert execution.exception() is None
        assert execution.attempt == 2
    else:
        assert isinstance(execution.exception(), WorkerKilled)
