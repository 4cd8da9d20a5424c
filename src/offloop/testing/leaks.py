"""Workers that a test leaves behind: pools that nobody shut down, processes and threads that live on."""

from __future__ import annotations

import asyncio
import gc
import threading
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakSet

import psutil

from offloop.loopend import end_with_loop
from offloop.registry import in_use, witnesses

if TYPE_CHECKING:
    from offloop.dispatcher import Dispatcher

#: Seconds that workers get to go away by themselves.
GRACE = 5.0
_THREAD = "offloop-worker-"


class Watch:
    """Watches from its making on which workers come, and tells at the end which are left.

    The global pool, which by agreement ends with its event loop, is left alone
    as long as that loop is open.
    """

    def __init__(self) -> None:
        self._known = WeakSet(in_use)
        self._threads = WeakSet(_worker_threads())
        self._never_shut_down: list[str] = []
        self._note = self._never_shut_down.append
        witnesses.append(self._note)

    def leaks(self) -> list[str]:
        """Stop watching.

        What is left is ended, so that no later test is blamed for it.

        Returns:
            One line for each worker or pool that was not shut down, and for
            each process and thread of a worker that still ran `GRACE` seconds
            later.  Where nothing is left this takes microseconds.
        """
        new = [dispatcher for dispatcher in in_use if dispatcher not in self._known]
        if new:
            gc.collect()  # a pool in a reference cycle says only now that nobody shut it down
        watched = [dispatcher for dispatcher in new if not _ends_with_its_loop(dispatcher)]
        processes = [process for dispatcher in watched for process in _processes(dispatcher)]
        found = [f"{d.owner()!r} was never shut down" for d in watched if d.abandoned()]
        for dispatcher in watched:
            end(dispatcher)
        witnesses.remove(self._note)
        found += [f"{who} was never shut down" for who in self._never_shut_down]
        deadline = monotonic() + GRACE
        found += _still_running(processes, deadline)
        spared = {thread for d in new if d not in watched for thread in _threads_of(d)}
        return found + self._living_threads(spared, deadline)

    def _living_threads(self, spared: set[threading.Thread], deadline: float) -> list[str]:
        new = [thread for thread in _worker_threads() if thread not in self._threads and thread not in spared]
        for thread in new:
            thread.join(max(0.0, deadline - monotonic()))
        return [f"worker thread {thread.name} still runs" for thread in new if thread.is_alive()]


def end(dispatcher: Dispatcher) -> None:
    """End a pool's workers, whatever its event loop does; what is outstanding is cancelled.

    It takes a few seconds at most.
    """
    dispatcher.ends_with_loop = True  # nobody is to be warned
    loop = dispatcher.loop
    if loop is None or dispatcher.ended_for_good:
        return
    if loop.is_closed() or loop.is_running() or asyncio.events._get_running_loop() is not None:
        dispatcher.abandon()
    else:
        loop.run_until_complete(end_with_loop(dispatcher))


def _ends_with_its_loop(dispatcher: Dispatcher) -> bool:
    loop = dispatcher.loop
    return dispatcher.ends_with_loop and loop is not None and not loop.is_closed()


def _processes(dispatcher: Dispatcher) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for handle in dispatcher.handles.values():
        if handle.link.pid is not None:
            try:
                found.append(psutil.Process(handle.link.pid))
            except psutil.NoSuchProcess:
                pass
    return found


def _still_running(processes: list[psutil.Process], deadline: float) -> list[str]:
    _, alive = psutil.wait_procs(processes, timeout=max(0.0, deadline - monotonic()))
    found: list[str] = []
    for process in alive:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                found.append(f"worker process {process.pid} still runs")
        except psutil.NoSuchProcess:
            pass
    return found


def _worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(_THREAD)]


def _threads_of(dispatcher: Dispatcher) -> list[threading.Thread]:
    threads = [getattr(handle.link, "_thread", None) for handle in dispatcher.handles.values()]
    return [thread for thread in threads if thread is not None]
