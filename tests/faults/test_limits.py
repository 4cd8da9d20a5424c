"""What the system refuses: a clear error on that execution, and all is well when there is room again.

FAULTS 10, 30 and 40.  What segments do without descriptors or memory is in `test_segments_under_faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support import no_forks, spoiling, tasks
from support.bounds import fail_after
from support.fakeengine import Cluster
from support.scripts import run_script

from offloop import Executor, ProcessWorkerFactory, WorkerFactory, WorkerPool, WorkerStartError
from offloop.contexts.outbox import Outbox
from offloop.contexts.template import TemplateProcess


@contextlib.contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    """Have one of this process's limits lowered for a while."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextlib.contextmanager
def descriptors(left: int) -> Iterator[None]:
    """Leave this process only so many descriptors for a while."""
    highest = max(map(int, os.listdir("/proc/self/fd")))
    with limit(resource.RLIMIT_NOFILE, highest + 50), contextlib.ExitStack() as held:
        fds: list[int] = []
        with contextlib.suppress(OSError):
            while True:
                fds.append(os.dup(0))
        for fd in fds[left:]:
            held.callback(os.close, fd)
        for fd in fds[:left]:
            os.close(fd)
        yield


FACTORIES: dict[str, Callable[[], WorkerFactory]] = {
    "template": lambda: ProcessWorkerFactory(start_method="template"),
    "exec": lambda: ProcessWorkerFactory(start_method="exec"),
    "cluster": lambda: Cluster().factory(),  # its machine is this one
}


@pytest.mark.parametrize("where", FACTORIES)
async def test_a_parent_that_runs_out_of_descriptors_says_so_and_recovers(where: str) -> None:
    """Whichever of the descriptors that a worker needs is the first that it does not get."""
    outcomes: list[str] = []
    while outcomes[-2:] != ["1", "1"]:
        async with WorkerPool(1, factory=FACTORIES[where]()) as pool:
            with descriptors(left=len(outcomes)):
                execution = pool.submit(abs, -1)
                async with fail_after(20):
                    await asyncio.wait([execution])
            outcomes.append(str(execution.exception() or execution.result()))
            assert outcomes[-1] == "1" or "Too many open files" in outcomes[-1]
            assert await pool.submit(abs, -2) == 2
        assert len(outcomes) < 40
    assert len(outcomes) > 5


@pytest.mark.parametrize(("number", "deaths"), [(errno.ETOOMANYREFS, 0), (errno.EBADF, 1)])
@pytest.mark.parametrize("is_first", [True, False])
async def test_what_cannot_be_sent_to_a_worker_is_sent_later_or_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch, number: int, deaths: int, is_first: bool
) -> None:
    refusals = [number]
    send = Outbox._send

    def refuse(self: Outbox, head: Any) -> int:
        if refusals:
            raise OSError(refusals.pop(), "refused")
        return send(self, head)

    async with WorkerPool(1) as pool:
        if not is_first:
            assert await pool.submit(abs, -1) == 1
        monkeypatch.setattr(Outbox, "_send_at_once", lambda self, data: 0)
        monkeypatch.setattr(Outbox, "_send", refuse)
        assert await pool.submit(abs, -2) == 2
        assert not refusals
        statistics = pool.statistics()
        assert statistics.crashes + statistics.failed_starts == deaths


async def test_workers_to_which_nothing_can_be_sent_can_not_start_and_the_error_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Outbox, head: Any) -> int:
        raise OSError(errno.EPERM, "refused")

    async with WorkerPool(1) as pool:
        monkeypatch.setattr(Outbox, "_send_at_once", lambda self, data: 0)
        monkeypatch.setattr(Outbox, "_send", refuse)
        with pytest.raises(WorkerStartError, match=r"nothing can be sent to it: .*refused"):
            await pool.submit(abs, -1)
        assert pool.statistics().failed_starts == 3, "nobody else has killed them"


@pytest.mark.parametrize("number", [errno.ETOOMANYREFS, errno.EBADF])
async def test_what_cannot_be_sent_to_a_template_is_sent_later_or_done_without_it(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Refusing(socket.socket):
        refusals: ClassVar[list[int]] = [number]

        def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0, /) -> int:
            if self.refusals and ancillary:
                raise OSError(self.refusals.pop(), "refused")
            return super().sendmsg(buffers, ancillary, flags)

    async with WorkerPool(2) as pool:
        assert await pool.submit(abs, -1) == 1
        (template,) = TemplateProcess._shared[asyncio.get_running_loop()].values()
        monkeypatch.setattr(template, "_sock", Refusing(fileno=template._sock.detach()))
        await pool.recycle()
        assert await pool.submit(abs, -2) == 2
        assert not Refusing.refusals


def test_an_executor_without_descriptors_for_its_event_loop_says_so_and_recovers() -> None:
    with Executor(1) as executor:
        for left in range(3):
            with descriptors(left=left), pytest.raises(OSError, match="Too many open files"):
                executor.submit(abs, -1)
        assert executor.submit(abs, -2).result(30) == 2


@pytest.mark.parametrize("start_method", ["template", "exec"])
async def test_a_parent_that_may_make_no_files_in_memory_says_so_and_recovers(start_method: Any) -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method=start_method)) as pool:
        with limit(resource.RLIMIT_FSIZE, 4096), pytest.raises(WorkerStartError, match="File too large"):
            await pool.submit(abs, -1)
        assert await pool.submit(abs, -2) == 2


async def test_a_template_that_may_not_fork_says_so_and_recovers(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    factory = ProcessWorkerFactory(preload=(no_forks.__name__,), env={no_forks.VARIABLE: str(full)})
    async with WorkerPool(1, factory=factory) as pool:
        with pytest.raises(WorkerStartError, match="Resource temporarily unavailable"):
            await pool.submit(abs, -1)
        full.unlink()
        assert await pool.submit(abs, -2) == 2


async def test_a_parent_that_may_start_no_process_says_so_and_recovers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    async with WorkerPool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr("subprocess._fork_exec", refuse)
            with pytest.raises(WorkerStartError, match="temporarily unavailable"):
                await pool.submit(abs, -1)
        assert await pool.submit(abs, -2) == 2


def take(size: int) -> int:
    return len(bytearray(size))


async def test_a_task_beyond_the_memory_limit_gets_a_memory_error_and_its_worker_lives_on() -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(memory_limit=1 << 30)) as pool:
        worker = await pool.submit(os.getpid)
        with pytest.raises(MemoryError):
            await pool.submit(take, 2 << 30)
        assert await pool.submit(take, 1 << 20) == 1 << 20
        assert await pool.submit(os.getpid) == worker


async def test_a_worker_without_descriptors_for_an_event_loop_fails_async_tasks_alone() -> None:
    async with WorkerPool(1) as pool:
        worker = await pool.submit(os.getpid)
        await pool.submit(tasks.echo, "which is loaded while it can be")
        await pool.submit(spoiling.lower_limit, "RLIMIT_NOFILE", 3)
        for _ in range(2):
            with pytest.raises((OSError, ImportError)):  # or for the code of it
                await pool.submit(tasks.aecho, 1)
        assert await pool.submit(os.getpid) == worker


def test_a_parent_without_address_space_fails_what_it_cannot_take_and_recovers(tmp_path: Path) -> None:
    done = run_script(
        """
        import asyncio, offloop, re, resource

        async def main():
            async with offloop.WorkerPool(1) as pool:
                size = 100 << 20
                await pool.submit(len, b"")
                soft, hard = resource.getrlimit(resource.RLIMIT_AS)
                used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
                resource.setrlimit(resource.RLIMIT_AS, (used + (50 << 20), hard))
                try:
                    await pool.submit(bytes, size)
                except Exception as error:
                    print(type(error).__name__)
                print(await pool.submit(abs, -1))
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
                print(len(await pool.submit(bytes, size)) == size)

        asyncio.run(main())
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["SerializationError", "1", "True"]
