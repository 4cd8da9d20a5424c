"""`aget_or_set`: one creation at a time, whoever of its callers fails or is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, strategies as st

from offloop import LocalEnvironment


class Maker:
    """An async factory that waits to be told how each of its creations ends."""

    def __init__(self) -> None:
        self.running: list[asyncio.Future[Any]] = []
        self.started = 0
        self.most = 0

    async def __call__(self) -> Any:
        self.started += 1
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.running.append(outcome)
        self.most = max(self.most, len(self.running))
        try:
            return await outcome
        finally:
            self.running.remove(outcome)

    def finish(self, value: Any) -> None:
        """Let the running creation return this, or raise it."""
        (outcome,) = self.running
        if isinstance(value, Exception):
            outcome.set_exception(value)
        else:
            outcome.set_result(value)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(8):
        await asyncio.sleep(0)


@pytest.fixture
def env() -> LocalEnvironment:
    return LocalEnvironment()


@pytest.fixture
def make() -> Maker:
    return Maker()


async def start(env: LocalEnvironment, make: Maker, count: int) -> list[asyncio.Task[Any]]:
    """So many callers of the same key; the first is making the value, the others wait for it."""
    callers = [asyncio.create_task(env.aget_or_set("key", make)) for _ in range(count)]
    await settle()
    assert make.started == 1
    return callers


async def test_a_missing_value_is_made_and_stored(env: LocalEnvironment) -> None:
    async def make() -> list[int]:
        return []

    value = await env.aget_or_set("key", make)
    assert value == []
    assert await env.aget_or_set("key", make) is value
    assert env["key"] is value


async def test_it_takes_the_options_of_set() -> None:
    now = 1000.0
    env = LocalEnvironment(clock=lambda: now)
    gone: list[object] = []

    async def make() -> str:
        return "value"

    await env.aget_or_set("key", make, 5, sliding=True, on_delete=gone.append)
    now += 4
    await env.aget_or_set("key", make)
    now += 4
    assert env.exists("key")
    now += 1
    assert not env.exists("key")
    assert gone == ["value"]


@pytest.mark.parametrize(
    "options", [{"ttl": -1}, {"ttl": True}, {"on_delete": 5}, {"factory": None}], ids=repr
)
async def test_wrong_options_are_refused_before_anything_is_made(
    env: LocalEnvironment, make: Maker, options: dict[str, Any]
) -> None:
    with pytest.raises((TypeError, ValueError)):
        await env.aget_or_set("key", **{"factory": make, **options})
    with pytest.raises(TypeError):
        await env.aget_or_set(5, make)  # type: ignore[arg-type]
    assert make.started == 0


async def test_concurrent_callers_share_one_creation(env: LocalEnvironment, make: Maker) -> None:
    callers = await start(env, make, 5)
    value = object()
    make.finish(value)
    assert await asyncio.gather(*callers) == [value] * 5
    assert make.started == 1


async def test_other_keys_do_not_wait(env: LocalEnvironment, make: Maker) -> None:
    async def quick() -> int:
        return 2

    callers = await start(env, make, 1)
    assert await env.aget_or_set("other", quick) == 2
    make.finish(1)
    assert await callers[0] == 1


async def test_none_is_returned_to_everybody_and_not_stored(env: LocalEnvironment, make: Maker) -> None:
    callers = await start(env, make, 3)
    make.finish(None)
    assert await asyncio.gather(*callers) == [None] * 3
    assert not env.exists("key")
    assert make.started == 1


@pytest.mark.parametrize("value", [0, "", False])
async def test_falsy_values_are_stored(env: LocalEnvironment, make: Maker, value: Any) -> None:
    callers = await start(env, make, 2)
    make.finish(value)
    assert await asyncio.gather(*callers) == [value] * 2
    assert env.exists("key")


async def test_a_failure_is_shared_and_leaves_nothing_behind(env: LocalEnvironment, make: Maker) -> None:
    callers = await start(env, make, 3)
    failure = OSError("no connection")
    make.finish(failure)
    assert await asyncio.gather(*callers, return_exceptions=True) == [failure] * 3
    assert not env.exists("key")
    (caller,) = [asyncio.create_task(env.aget_or_set("key", make))]
    await settle()
    make.finish("second")
    assert await caller == "second"


async def test_a_value_that_expires_at_once_still_reaches_everybody(make: Maker) -> None:
    ticks = iter(range(1000))
    env = LocalEnvironment(clock=lambda: float(next(ticks)))
    callers = [asyncio.create_task(env.aget_or_set("key", make, 0.5)) for _ in range(3)]
    await settle()
    make.finish("short-lived")
    assert await asyncio.gather(*callers) == ["short-lived"] * 3
    assert make.started == 1
    assert not env.exists("key")


async def test_when_the_creating_caller_is_cancelled_one_that_waits_takes_over(
    env: LocalEnvironment, make: Maker
) -> None:
    callers = await start(env, make, 4)
    callers[0].cancel()
    await settle()
    assert callers[0].cancelled()
    assert (make.started, len(make.running)) == (2, 1)
    make.finish("second")
    assert await asyncio.gather(*callers[1:]) == ["second"] * 3


async def test_when_it_is_cancelled_together_with_the_next_one_the_third_takes_over(
    env: LocalEnvironment, make: Maker
) -> None:
    callers = await start(env, make, 4)
    callers[0].cancel()
    await asyncio.sleep(0)  # the first is gone, the second is about to be woken
    callers[1].cancel()
    await settle()
    assert (callers[0].cancelled(), callers[1].cancelled()) == (True, True)
    make.finish("value")
    assert await asyncio.gather(*callers[2:]) == ["value"] * 2


async def test_a_timeout_around_the_creating_caller_is_a_cancellation(
    env: LocalEnvironment, make: Maker
) -> None:
    async def impatient() -> Any:
        async with asyncio.timeout(0):
            return await env.aget_or_set("key", make)

    first = asyncio.create_task(impatient())
    second = asyncio.create_task(env.aget_or_set("key", make))
    with pytest.raises(TimeoutError):
        await first
    await settle()
    make.finish("value")
    assert await second == "value"


async def test_a_cancelled_caller_that_only_waits_touches_nobody_else(
    env: LocalEnvironment, make: Maker
) -> None:
    callers = await start(env, make, 3)
    callers[1].cancel()
    await settle()
    assert callers[1].cancelled()
    assert make.started == 1
    make.finish("value")
    assert await asyncio.gather(callers[0], callers[2]) == ["value"] * 2


async def test_when_everybody_is_cancelled_nothing_is_left_behind(env: LocalEnvironment, make: Maker) -> None:
    callers = await start(env, make, 3)
    for caller in callers:
        caller.cancel()
    await settle()
    assert all(caller.cancelled() for caller in callers)
    assert make.running == []
    assert not env.exists("key")
    (caller,) = [asyncio.create_task(env.aget_or_set("key", make))]
    await settle()
    make.finish("value")
    assert await caller == "value"


async def test_a_factory_that_asks_for_its_own_key_is_told_so(env: LocalEnvironment, make: Maker) -> None:
    async def recursive() -> Any:
        return await env.aget_or_set("key", recursive)

    with pytest.raises(RuntimeError, match="'key' waits for itself"):
        await env.aget_or_set("key", recursive)


async def test_a_value_set_meanwhile_is_replaced_by_the_made_one(env: LocalEnvironment, make: Maker) -> None:
    gone: list[object] = []
    callers = await start(env, make, 2)
    env.set("key", "set", on_delete=gone.append)
    assert await env.aget_or_set("key", make) == "set"
    make.finish("made")
    assert await asyncio.gather(*callers) == ["made"] * 2
    assert env["key"] == "made"
    assert gone == ["set"]


def test_a_creation_on_a_loop_that_stands_still_is_not_waited_for(env: LocalEnvironment, make: Maker) -> None:
    async def quick() -> str:
        return "new"

    standing = asyncio.new_event_loop()
    try:
        old = standing.create_task(env.aget_or_set("key", make))
        standing.run_until_complete(settle())
        assert make.started == 1
        assert asyncio.run(env.aget_or_set("key", quick)) == "new"
        make.finish("old")
        assert standing.run_until_complete(old) == "old"
    finally:
        standing.close()


def test_a_creation_forgotten_by_a_closed_loop_leaves_nothing_behind(env: LocalEnvironment) -> None:
    class Never:
        def __await__(self) -> Any:
            yield None

    async def make() -> Any:
        while True:
            await Never()

    loop = asyncio.new_event_loop()
    coroutines = [env.aget_or_set("key", make) for _ in range(2)]
    tasks = [loop.create_task(coroutine) for coroutine in coroutines]
    loop.run_until_complete(settle())
    loop.close()
    for task, coroutine in zip(tasks, coroutines, strict=True):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine.close()
    assert env._creations == {}


@given(
    steps=st.lists(
        st.one_of(
            st.just(("call", 0)),
            st.tuples(st.just("cancel"), st.integers(0, 5)),
            st.tuples(st.just("finish"), st.sampled_from(["value", None, OSError()])),
            st.just(("delete", 0)),
            st.just(("turn", 0)),
        ),
        max_size=25,
    )
)
def test_whatever_happens_one_creation_runs_at_a_time_and_nobody_hangs(steps: list[tuple[str, Any]]) -> None:
    async def scenario() -> None:
        env, make = LocalEnvironment(), Maker()
        callers: list[asyncio.Task[Any]] = []
        for step, argument in steps:
            if step == "call":
                callers.append(asyncio.create_task(env.aget_or_set("key", make)))
            elif step == "cancel" and argument < len(callers):
                callers[argument].cancel()
            elif step == "finish" and make.running and not make.running[0].done():
                make.finish(argument)
            elif step == "delete":
                env.delete("key")
            elif step == "turn":
                await asyncio.sleep(0)
        await settle()
        while make.running:
            make.finish("last")
            await settle()
        assert all(caller.done() for caller in callers)
        assert make.most <= 1
        assert not env._creations
        await asyncio.gather(*callers, return_exceptions=True)

    asyncio.run(scenario())
