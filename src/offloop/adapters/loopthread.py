"""A pool on an event loop in a thread of its own, for callers in other threads.

Whatever other threads want is put into an inbox, which the loop works off.
The first one to put something in wakes the loop, and the others find it woken:
a burst of a thousand submits is one wake-up.

Who may do what, so that nothing is lost and nobody waits for ever:

* A future is *claimed* right before its task is handed to a worker.  From then
  on it is running, and ``cancel`` refuses; one that was cancelled before is not
  claimed, and its task never sent.
* ``_lock`` guards the way in.  Closing sets ``_closing`` under it and puts the
  end into the inbox behind everything else: what was taken is worked off.
* The thread ends after the pool, whose shutdown waits for every task.

The thread is no daemon.  As the standard library's executors do, it is told
by ``threading`` when the interpreter ends, before other threads are waited for.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context, copy_context
from selectors import DefaultSelector
from socket import socketpair
from typing import Any

from offloop.adapters.handed import HandedExecution, TaskFuture
from offloop.errors import QueueFull
from offloop.protocols import TaskLike
from offloop.workerpool import WorkerPool

#: Entries of the inbox worked off in one turn of the loop: about a millisecond of work.
TURN = 256


class LoopThread:
    """Runs a pool on an event loop in its own thread, which starts when it is first needed.

    Args:
        pool: a new pool; it is used on the thread only.
        limit: how many tasks may be outstanding, or None.
    """

    def __init__(self, pool: WorkerPool, limit: int | None = None) -> None:
        self.pool = pool
        self._dispatcher = pool._dispatcher
        self._dispatcher.make_execution = HandedExecution
        self._limit = limit
        self._outstanding = 0  # counted only where there is a limit
        self._lock = threading.RLock()  # re-entrant: finalisers and signal handlers may submit
        self._inbox: deque[tuple[TaskFuture[Any] | None, Any]] = deque()
        self._woken = True  # by starting, it will look
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = self._over = self._forked = False
        self._problem: BaseException | None = None
        self._ended = threading.Event()
        #: What `run` has begun, and whom to tell of the end.
        self._running: dict[asyncio.Task[None], Callable[[bool], object]] = {}

    # -- in any thread --------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether it takes no tasks any more."""
        return self._closing

    @property
    def is_running(self) -> bool:
        """Whether it has started, and takes tasks."""
        return self._thread is not None and not self._closing

    def submit(self, task: TaskLike[Any]) -> TaskFuture[Any]:
        """Queue a task.

        Raises:
            RuntimeError: it was closed, or the interpreter is ending, or this process was forked.
            QueueFull: the limit is reached.
            OSError: it was to start, and there are no descriptors for an event loop.
        """
        future: TaskFuture[Any] = TaskFuture()
        if context := copy_context():  # it is empty as a rule
            future.context = context
        with self._lock:
            if self._closing or self._thread is None or _at_exit.begun:
                self.check_open()
            if self._outstanding == self._limit:
                raise QueueFull(f"{self._outstanding} tasks are outstanding, and the queue_limit is reached")
            self._inbox.append((future, task))
            if self._limit is not None:  # what a Ctrl-C comes between is as if it were not counted
                future.add_done_callback(self._uncount)
                self._outstanding += 1
            if not self._woken:
                self._wake()
        return future

    def check_open(self) -> None:
        """Raise the error for one that takes nothing any more; else see that the thread runs."""
        if self._forked:
            raise RuntimeError("this executor belongs to the process that was forked; make a new one here")
        if self._problem is not None:
            raise self._broken()
        if self._closing:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _at_exit.begun:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._thread is None:
            with self._lock:
                self._start()

    def call(self, callback: Callable[[], object]) -> None:
        """Have something called on the loop, behind what was submitted before; ignored after the end."""
        with self._lock:
            if self._thread is None or self._over:
                return
            self._inbox.append((None, callback))
            if not self._woken:
                self._wake()

    def run(
        self, coroutine: Coroutine[Any, Any, None], closing: Callable[[bool], object] = lambda cancel: None
    ) -> None:
        """Run a coroutine on the loop, and finish it before the pool is shut down.

        Args:
            coroutine: what to run.
            closing: called on the loop when it is closed meanwhile, with whether to cancel.

        Raises:
            RuntimeError: as of `submit`.
        """

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(coroutine)
            self._running[task] = closing
            task.add_done_callback(self._running.pop)

        with self._lock:
            try:
                self.check_open()
            except BaseException:
                coroutine.close()
                raise
            self.call(begin)

    def close(self, *, cancel: bool = False) -> None:
        """Take no more, finish what was taken, and end; never blocks.

        Args:
            cancel: cancel what was not handed to a worker.
        """
        with self._lock:
            self._closing = True
            self.call(lambda: self._stop(cancel=cancel))

    def interrupt(self) -> None:
        """`close`, and cancel everything: what runs, too."""
        with self._lock:
            self.close(cancel=True)
            self.call(lambda: self._dispatcher.cancel_all(running=True))

    def join(self) -> None:
        """Wait until the thread has ended; at once if it never started, or is this very thread.

        Ctrl-C, for which the workers wait as long, interrupts what runs.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread() or self._forked:
            return
        try:
            self._ended.wait()  # `Thread.join` takes a thread for ended once it was interrupted (bpo-45274)
        except KeyboardInterrupt:
            self.interrupt()
            self._ended.wait()
            raise
        thread.join()

    def _broken(self) -> RuntimeError:
        error = RuntimeError("the executor's event loop has ended")
        error.__cause__ = self._problem
        return error

    def __repr__(self) -> str:
        if self._closing:
            state = "shut down"
        else:
            state = "not started" if self._thread is None else "running"
        workers = f"{len(self._dispatcher.handles)}/{self.pool.max_workers}"
        return f"{state} workers={workers} outstanding={self._dispatcher.outstanding + len(self._inbox)}"

    def _uncount(self, future: Future[Any]) -> None:
        with self._lock:
            self._outstanding -= 1

    def _start(self) -> None:
        if self._thread is None:
            loop = _new_event_loop()  # here, where whoever needs it hears why there is none
            thread = threading.Thread(target=self._run, args=(loop,), name="offloop-executor", daemon=False)
            _at_exit.add(self)
            try:
                thread.start()
                self._thread = thread
            except BaseException:  # a Ctrl-C, too, after which the thread may yet run: see `_run`
                _at_exit.discard(self)
                loop.close()
                raise

    def _wake(self) -> None:
        assert self._loop is not None, "it is woken from its start until it has looked"
        # In nobody's context: what was put in by others must not get this thread's.
        try:
            self._woken = True
            self._loop.call_soon_threadsafe(self._drain, context=Context())
        except RuntimeError:
            pass  # it has just been closed, and `_end` sees to the rest
        except BaseException:  # a Ctrl-C
            self._woken = False
            raise

    # -- on the loop's thread -------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:  # `_start` has it until it is over
            if self._thread is not threading.current_thread():
                loop.close()
                return  # it was interrupted, and counts as not started
            self._loop = loop
        try:
            with asyncio.Runner(loop_factory=lambda: loop):
                serving = loop.create_task(self._serve())
                while not serving.done():
                    try:
                        loop.run_until_complete(serving)
                    except (KeyboardInterrupt, SystemExit):
                        continue  # an unpickled object's: it was set on its future, and ends nothing here
        except BaseException as error:  # nothing that is known of
            self._problem = error
        finally:
            self._end()

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        self._drain()
        await self._stopped.wait()
        while self._running:
            await asyncio.wait(self._running)
        await self.pool.shutdown()

    def _drain(self) -> None:
        """Work off what other threads have put in."""
        self._woken = False  # before looking: what is put in from here on wakes again
        inbox = self._inbox
        for _ in range(TURN):
            if not inbox:
                return
            future, content = inbox.popleft()
            if future is None:
                content()
            else:
                self._enqueue(future, content)
        self._woken = True
        asyncio.get_running_loop().call_soon(self._drain)

    def _enqueue(self, future: TaskFuture[Any], task: TaskLike[Any]) -> None:
        enqueue, context = self._dispatcher.enqueue, future.context
        future.context = None
        try:
            execution = enqueue(task) if context is None else context.run(enqueue, task)
        except BaseException as error:  # the pool was killed; or a callable is hostile to being looked at
            if future.claim():
                future.end(None, error)
            return
        assert isinstance(execution, HandedExecution)
        execution.stand_for(future)

    def _stop(self, *, cancel: bool) -> None:
        # Behind the pool's turn, which starts workers for what was submitted just now.
        loop = asyncio.get_running_loop()
        loop.call_soon(self._tell, cancel)
        loop.call_soon(self._stopped.set)

    def _tell(self, cancel: bool) -> None:
        """Tell whom it concerns that the end has come."""
        for closing in [*self._running.values()]:
            closing(cancel)
        if not cancel:
            return
        # What a worker is being started for counts as handed over.
        starting = sum(not handle.ready.done() for handle in self._dispatcher.handles.values())
        for execution in self._dispatcher.scheduler.waiting()[starting:]:
            if isinstance(execution, HandedExecution) and execution.future is not None:
                execution.future.cancel()

    def _end(self) -> None:
        """The loop is closed; nothing is left, unless it broke."""
        with self._lock:
            self._closing = self._over = True
            left = [future for future, _ in self._inbox if future is not None]
            self._inbox.clear()
        for future in left:
            if future.claim():
                future.end(None, self._broken())
        _at_exit.discard(self)
        self._ended.set()

    # -- forks ----------------------------------------------------------------

    def forked(self) -> None:
        """This is a child process, where the thread does not exist: nothing here will end by itself."""
        self._forked = self._closing = self._over = True
        self._lock = threading.RLock()  # the thread may have held it
        executions = self._dispatcher.scheduler.waiting()
        for handle in self._dispatcher.handles.values():
            executions += handle.state.hand.values()
        futures = [each.future for each in executions if isinstance(each, HandedExecution)]
        for future in [*futures, *(future for future, _ in self._inbox)]:
            if future is not None:
                future.forked(RuntimeError("this task belongs to the process that was forked"))


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop, or an `OSError`: one that gets only some of its descriptors complains when it goes."""
    with DefaultSelector():
        one, other = socketpair()
        with one, other:
            pass
    return asyncio.new_event_loop()


class AtExit:
    """What ends when the interpreter does; one for the process.

    Attributes:
        begun: whether the interpreter is ending.
    """

    def __init__(self) -> None:
        self.begun = False
        self._lock = threading.RLock()
        self._threads: set[LoopThread] = set()
        self._kept: list[LoopThread] = []

    def add(self, thread: LoopThread) -> None:
        """Have this one ended, and waited for."""
        with self._lock:
            if self.begun:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            self._threads.add(thread)

    def discard(self, thread: LoopThread) -> None:
        """It has ended."""
        with self._lock:
            self._threads.discard(thread)

    def end(self) -> None:
        """Let each finish what it has, and wait for it."""
        with self._lock:
            self.begun = True
            threads = list(self._threads)
        for thread in threads:
            thread.interrupt() if _was_interrupted() else thread.close()
        for thread in threads:
            thread.join()

    def forked(self) -> None:
        """This is a child process: it has none of the threads."""
        self._lock = threading.RLock()
        for thread in self._threads:
            thread.forked()
        self._kept += self._threads  # their loops must not be finalised: they share the parent's descriptors
        self._threads = set()


def _was_interrupted() -> bool:
    """Whether Ctrl-C ends the program: what runs is not wanted any more."""
    # In a REPL it is what the last statement ended with that failed, and the user types on.
    return getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")


_at_exit = AtExit()
# As `concurrent.futures` does: before the interpreter waits for threads, and while all still works.
threading._register_atexit(_at_exit.end)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_at_exit.forked)
