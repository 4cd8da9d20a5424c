"""The contract that authors of contexts get, over the contexts that there are, and over broken ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest

from offloop import ProcessWorkerFactory, ThreadWorkerFactory
from offloop.contexts.thread import ThreadContext, ThreadLink
from offloop.link import Context, LinkOwner, S, Sendable
from offloop.testing import InlineWorkerFactory, leaks, worker_contract


class TestProcess(worker_contract.WorkerContract):
    factory = ProcessWorkerFactory


class TestProcessByExec(worker_contract.CrashContract):
    factory = partial(ProcessWorkerFactory, start_method="exec")


class TestThread(worker_contract.WorkerContract):
    factory = ThreadWorkerFactory
    pickles = False
    can_be_killed = False


class TestInline(worker_contract.WorkerContract):
    factory = InlineWorkerFactory
    pickles = False
    can_be_killed = False
    can_be_interrupted = False


class TestInlinePickling(worker_contract.WorkerContract):
    factory = partial(InlineWorkerFactory, pickling=True)
    can_be_killed = False
    can_be_interrupted = False


# --- broken contexts -------------------------------------------------------------------------------


class LastInFirstOut(ThreadLink):
    """Sends tasks in the wrong order."""

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        return super().send(list(reversed(items)))


class NeverCancels(ThreadLink):
    """Takes tasks back, and does not interrupt what runs."""

    def cancel(self, items: Sequence[Sendable]) -> None:
        self.recall(items)


class LeavesAThread(ThreadLink):
    """Starts a thread too many."""

    release = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self.release.wait, name="offloop-worker-extra", daemon=True).start()
        super().start()


@dataclass(frozen=True, kw_only=True)
class BrokenFactory(ThreadWorkerFactory):
    """Makes thread workers with another link."""

    link: type[ThreadLink]

    def context(self) -> Context:
        return BrokenContext(self)


class BrokenContext(ThreadContext):
    """Connects by the factory's link."""

    _factory: BrokenFactory

    def connect(self, number: int, owner: LinkOwner) -> ThreadLink:
        return self._factory.link(self._loop, self._doorbell.ring, self._factory, number, owner)


def contract_over(factory: Callable[..., Any]) -> worker_contract.WorkerContract:
    """The contract over a factory of threads, in little time."""

    class Contract(worker_contract.WorkerContract):
        pickles = False
        can_be_killed = False
        bound = 1.0

    Contract.factory = factory  # type: ignore[assignment]
    return Contract()


def test_a_context_that_mixes_up_the_order_is_found_out(tmp_path: Path) -> None:
    contract_over(ThreadWorkerFactory).test_tasks_run_in_the_order_they_came(tmp_path)
    (tmp_path / "log").unlink()
    with pytest.raises(AssertionError):
        contract_over(partial(BrokenFactory, link=LastInFirstOut)).test_tasks_run_in_the_order_they_came(
            tmp_path
        )


def test_a_context_that_does_not_cancel_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        contract_over(
            partial(BrokenFactory, link=NeverCancels)
        ).test_a_running_async_task_gets_cancelled_error(tmp_path)


def test_a_context_that_leaves_something_behind_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "GRACE", 0.2)
    try:
        with pytest.raises(AssertionError, match="worker thread offloop-worker-extra still runs"):
            contract_over(partial(BrokenFactory, link=LeavesAThread)).test_a_task_knows_itself()
    finally:
        LeavesAThread.release.set()


def test_a_test_that_a_context_does_not_claim_to_pass_is_skipped(tmp_path: Path) -> None:
    contract = contract_over(ThreadWorkerFactory)
    with pytest.raises(SkipTest, match="can_be_killed is False"):
        contract.test_retries_run_a_crashed_task_again(tmp_path)
    with pytest.raises(SkipTest, match="pickles is False"):
        contract.test_a_task_changes_its_own_copy()


def test_a_test_that_hangs_is_ended() -> None:
    class Hangs(worker_contract.Contract):
        factory = InlineWorkerFactory
        bound = 0.05

        @worker_contract.promise
        async def test_it(self) -> None:
            async with self.worker() as worker:
                await worker.submit(worker_contract.tasks.wait_for_ever, "/dev/null")

    with pytest.raises(AssertionError, match=r"not done after 0\.05 s"):
        Hangs().test_it()
