"""An environment on a running event loop: its timer, and ``on_delete`` callbacks that are async."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from offloop import LocalEnvironment


class RecordingLoop(asyncio.SelectorEventLoop):
    """Remembers its timers."""

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[asyncio.TimerHandle] = []

    def call_later(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        self.handles.append(super().call_later(*args, **kwargs))
        return self.handles[-1]

    def waiting(self) -> int:
        """How many timers are set."""
        return sum(not handle.cancelled() for handle in self.handles)

    def do(self, function: Callable[[], object]) -> None:
        """Call a function while the loop is running."""

        async def call() -> None:
            function()

        self.run_until_complete(call())


@pytest.fixture
def loop() -> Iterator[RecordingLoop]:
    loop = RecordingLoop()
    yield loop
    loop.close()


@pytest.fixture
def other_loop() -> Iterator[RecordingLoop]:
    loop = RecordingLoop()
    yield loop
    loop.close()


class TestTimer:
    async def test_an_entry_expires_by_itself(self) -> None:
        env, gone = LocalEnvironment(), asyncio.Event()
        env.set("key", "value", ttl=0.01, on_delete=lambda value: gone.set())
        await gone.wait()
        assert not env.exists("key")

    async def test_entries_expire_one_after_the_other(self) -> None:
        env, gone = LocalEnvironment(), []
        last = asyncio.Event()
        env.set("unlimited", 0)
        env.set("b", "b", ttl=0.02, on_delete=lambda value: (gone.append(value), last.set()))
        env.set("a", "a", ttl=0.01, on_delete=gone.append)
        await last.wait()
        assert gone == ["a", "b"]
        assert list(env) == ["unlimited"]

    async def test_an_entry_that_a_callback_stores_expires_as_well(self) -> None:
        env, gone = LocalEnvironment(), asyncio.Event()
        env.set(
            "a", 1, ttl=0.01, on_delete=lambda _: env.set("b", 2, ttl=0.01, on_delete=lambda _: gone.set())
        )
        await gone.wait()
        assert len(env) == 0

    async def test_a_sliding_entry_that_was_used_stays_until_its_new_deadline(self) -> None:
        now = 1000.0
        env, gone, early = LocalEnvironment(clock=lambda: now), asyncio.Event(), asyncio.Event()
        env.set("sliding", 1, ttl=0.02, sliding=True, on_delete=lambda _: gone.set())
        now += 0.015
        env.get("sliding")
        env.set("early", 2, ttl=0.005, on_delete=lambda _: early.set())
        now += 0.005  # the sliding entry's first deadline
        await early.wait()
        assert not gone.is_set()
        now += 0.02
        await gone.wait()

    def test_there_is_one_timer_however_many_entries(self, loop: RecordingLoop) -> None:
        env = LocalEnvironment()
        loop.do(lambda: [env.set(str(number), 1, ttl=1000 + number) for number in range(100)])
        assert len(loop.handles) == 1

    def test_only_an_earlier_deadline_moves_the_timer(self, loop: RecordingLoop) -> None:
        env = LocalEnvironment()
        loop.do(lambda: env.set("a", 1, ttl=1000))
        loop.do(lambda: env.set("b", 1, ttl=2000))
        assert (len(loop.handles), loop.waiting()) == (1, 1)
        loop.do(lambda: env.set("c", 1, ttl=500))
        assert (len(loop.handles), loop.waiting()) == (2, 1)

    def test_entries_without_ttl_set_no_timer(self, loop: RecordingLoop) -> None:
        loop.do(lambda: LocalEnvironment().update(a=1))
        assert loop.handles == []

    @pytest.mark.parametrize(
        "end",
        [
            lambda env: env.delete("key"),
            lambda env: env.set("key", "unlimited"),
            lambda env: env.clear(),
            lambda env: env.close(),
        ],
    )
    def test_the_timer_is_cancelled_when_nothing_with_a_deadline_is_left(
        self, loop: RecordingLoop, end: Callable[[LocalEnvironment], object]
    ) -> None:
        env = LocalEnvironment()
        loop.do(lambda: env.set("other", 1, ttl=2000))
        loop.do(lambda: env.set("key", 1, ttl=1000))
        loop.do(lambda: env.delete("other"))
        assert loop.waiting() == 1
        end(env)
        assert loop.waiting() == 0

    def test_the_timer_is_cancelled_when_the_last_entry_was_seen_to_expire(self, loop: RecordingLoop) -> None:
        now = 1000.0
        env = LocalEnvironment(clock=lambda: now)
        loop.do(lambda: env.set("key", 1, ttl=1000))
        now += 1000
        assert not env.exists("key")
        assert loop.waiting() == 0

    def test_the_timer_does_not_keep_the_environment_alive(self, loop: RecordingLoop) -> None:
        env = LocalEnvironment()
        reference = weakref.ref(env)
        loop.do(partial(env.set, "key", 1, ttl=1000))
        assert loop.waiting() == 1
        del env
        gc.collect()
        assert reference() is None

    def test_a_timer_that_outlives_its_environment_rings_in_vain(self, loop: RecordingLoop) -> None:
        env = LocalEnvironment()
        loop.do(partial(env.set, "key", 1, ttl=0.01, on_delete=pytest.fail))
        del env
        gc.collect()
        rung = asyncio.Event()
        loop.call_at(loop.handles[0].when() + 1e-6, rung.set)
        loop.run_until_complete(rung.wait())

    def test_a_new_loop_gets_the_timer_when_the_old_one_is_closed(self, loop: RecordingLoop) -> None:
        env, gone = LocalEnvironment(), []
        closed = RecordingLoop()
        closed.do(lambda: env.set("long", 1, ttl=1000))
        closed.close()

        async def use() -> None:
            event = asyncio.Event()
            env.set("short", 2, ttl=0.01, on_delete=lambda value: (gone.append(value), event.set()))
            await event.wait()

        loop.run_until_complete(use())
        assert gone == [2]
        assert loop.waiting() >= 1  # for the entry that was set on the closed loop

    def test_moving_between_loops_leaves_one_timer(
        self, loop: RecordingLoop, other_loop: RecordingLoop
    ) -> None:
        env = LocalEnvironment()
        loop.do(lambda: env.set("a", 1, ttl=1000))
        other_loop.do(lambda: env.set("b", 1, ttl=2000))
        assert (loop.waiting(), other_loop.waiting()) == (0, 1)

    def test_the_timer_of_a_closed_loop_is_dropped(self) -> None:
        env = LocalEnvironment()
        closed = RecordingLoop()
        closed.do(lambda: env.set("key", 1, ttl=1000))
        closed.close()
        env.set("other", 1, ttl=1000)
        assert not env._alarm.is_set
        reference = weakref.ref(closed)
        del closed
        gc.collect()
        assert reference() is None

    def test_an_interrupting_callback_does_not_stop_the_clock(self, loop: RecordingLoop) -> None:
        env = LocalEnvironment()

        deleted: list[object] = []

        def leave(value: object) -> None:
            deleted.append(value)
            raise SystemExit

        async def forever() -> None:
            await asyncio.Event().wait()

        waiting = loop.create_task(forever())
        loop.do(lambda: env.set("a", 1, ttl=0.01, on_delete=leave))
        loop.do(lambda: env.set("b", 2, ttl=0.02, on_delete=leave))
        while len(deleted) < 2:  # both at once, if this process was held up
            with pytest.raises(SystemExit):
                loop.run_until_complete(waiting)
        assert (deleted, list(env._entries)) == ([1, 2], [])
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(waiting)


class Closes:
    """An ``on_delete`` that is a coroutine function."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.closed: list[object] = []
        self.done = asyncio.Event()

    async def __call__(self, value: object) -> None:
        self.started.set()
        await self.go_on.wait()
        self.closed.append(value)
        self.done.set()
        if self.failure is not None:
            raise self.failure


class TestAsyncCallbacks:
    async def test_on_a_running_loop_it_becomes_a_task(self) -> None:
        env, close = LocalEnvironment(), Closes()
        env.set("key", "value", on_delete=close)
        env.delete("key")
        await close.started.wait()
        gc.collect()  # nobody but the environment holds the task
        close.go_on.set()
        await close.done.wait()
        assert close.closed == ["value"]

    async def test_an_entry_that_expires_by_itself_awaits_it_too(self) -> None:
        env, close = LocalEnvironment(), Closes()
        close.go_on.set()
        env.set("key", "value", ttl=0.01, on_delete=close)
        await close.done.wait()
        assert close.closed == ["value"]

    async def test_its_failure_is_contained_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        env, close = LocalEnvironment(), Closes(OSError("closing failed"))
        close.go_on.set()
        env.set("key", "value", on_delete=close)
        env.close()
        await asyncio.gather(*env.take_pending())
        assert [record.getMessage() for record in caplog.records] == ["on_delete of 'key' failed"]
        assert "closing failed" in caplog.text

    async def test_the_worker_can_wait_for_the_tasks_of_its_loop(self) -> None:
        env, close = LocalEnvironment(), Closes()
        env.set("key", "value", on_delete=close)
        env.close()
        pending = env.take_pending()
        close.go_on.set()
        await asyncio.gather(*pending)
        assert close.closed == ["value"]
        assert env.take_pending() == []

    def test_the_tasks_of_another_loop_are_not_handed_over(
        self, loop: RecordingLoop, other_loop: RecordingLoop
    ) -> None:
        env, close = LocalEnvironment(), Closes()
        env.set("key", "value", on_delete=close)
        loop.do(env.close)
        assert env.take_pending() == []
        other_loop.do(lambda: close.closed.extend(env.take_pending()))
        assert close.closed == []
        close.go_on.set()
        loop.run_until_complete(close.done.wait())
        assert close.closed == ["value"]

    def test_without_a_loop_it_is_kept_for_the_worker(self, caplog: pytest.LogCaptureFixture) -> None:
        env = LocalEnvironment()
        good, bad = Closes(), Closes(OSError("closing failed"))
        for close in (good, bad):
            close.go_on.set()
            env.set("key", "value", on_delete=close)
        env.clear()
        pending = env.take_pending()
        assert env.take_pending() == []

        async def wait() -> None:
            for awaitable in pending:
                await awaitable

        asyncio.run(wait())
        assert (good.closed, bad.closed) == (["value"], ["value"])
        assert "closing failed" in caplog.text

    def test_any_awaitable_is_awaited(self) -> None:
        awaited: list[object] = []

        class Closing:
            def __await__(self) -> Iterator[None]:
                awaited.append("closed")
                yield from ()

        env = LocalEnvironment()
        env.set("key", "value", on_delete=lambda value: Closing())
        env.delete("key")
        (pending,) = env.take_pending()

        async def wait(awaitable: Awaitable[Any]) -> None:
            await awaitable

        asyncio.run(wait(pending))
        assert awaited == ["closed"]
