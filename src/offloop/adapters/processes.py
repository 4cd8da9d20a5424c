"""The worker processes of an executor, as `concurrent.futures.ProcessPoolExecutor` lists them."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import psutil

from offloop.adapters.loopthread import LoopThread


class WorkerProcess(psutil.Process):
    """A process with the methods of `multiprocessing.Process` that others use on workers."""

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.is_running()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, for that many seconds at most."""
        try:
            self.wait(timeout)
        except psutil.TimeoutExpired:
            pass


def processes_of(thread: LoopThread) -> dict[int, WorkerProcess]:
    """The processes that take tasks, by pid; those that are starting are waited for."""
    answer: Future[list[int]] = Future()

    async def ask() -> None:
        await asyncio.sleep(0)  # the turn in which what was submitted has its workers started
        handles = [each for each in thread.pool._dispatcher.handles.values() if each.state.is_living]
        if handles:
            await asyncio.wait([each.ready for each in handles])
        answer.set_result([each.link.pid for each in handles if each.link.pid is not None])

    if not thread.is_running:
        return {}
    try:
        thread.run(ask())
    except RuntimeError:  # it was shut down just now
        return {}
    found: dict[int, WorkerProcess] = {}
    for pid in answer.result():
        try:
            found[pid] = WorkerProcess(pid)
        except psutil.NoSuchProcess:
            continue
    return found
