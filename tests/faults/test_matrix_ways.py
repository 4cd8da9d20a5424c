"""The matrix of ways to run something: a failure or a death costs what ran, and no more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from matrix import CONTEXTS, Fault, Raises, matrix, survive
from support import hostile, tasks, unruly

from offloop import (
    Executor,
    SerializationError,
    StatusError,
    TaskFailed,
    WorkerCrashed,
    WorkerPool,
    current_task,
)

DEAD = Raises(WorkerCrashed)


async def mapped(pool: WorkerPool, fn: Any, *args: Any) -> Any:
    """The second of three items goes wrong."""
    return await pool.map(fn, *([0, arg, 0] for arg in args), chunksize=1)


async def streamed(pool: WorkerPool, fn: Any, *args: Any) -> Any:
    """All items of a stream."""
    return [item async for item in pool.stream(fn, *args)]


async def broadcast(pool: WorkerPool, fn: Any, *args: Any) -> Any:
    """The result of the only worker."""
    return await pool.broadcast(fn, *args)


async def with_options(pool: WorkerPool, fn: Any, *args: Any) -> Any:
    """A call with every option there is."""
    return await pool.options(timeout=60, priority=1, key="key").submit(fn, *args)


def by(way: Any, fn: Any, *args: Any) -> Callable[[WorkerPool], Any]:
    """Run a function in one of these ways."""
    return lambda pool: way(pool, fn, *args)


ENDINGS = {"raises": Raises(ValueError), "exits": Raises(TaskFailed), "dies": DEAD, "segfaults": DEAD}
FATAL = dict.fromkeys(("dies", "segfaults"), ("own process", "lost"))
WAYS = [
    *(
        Fault(f"{name} {how}", by(way, fn, how), ending, *FATAL.get(how, ()))
        for name, way, fn in (
            ("a mapped call", mapped, hostile.act_on),
            ("a stream", streamed, hostile.yield_then_act),
            ("an async stream", streamed, hostile.ayield_then_act),
            ("a broadcast call", broadcast, hostile.act),
            ("a call with options", with_options, hostile.act),
        )
        for how, ending in ENDINGS.items()
    ),
    *(
        Fault(
            f"an item of a stream exits {when}",
            by(streamed, hostile.yield_acting, when),
            Raises(SerializationError),
            "pickling",
        )
        for when in ("in pickle", "in load")
    ),
    Fault(
        "an exception of map that refuses notes",
        by(mapped, unruly.refuse_if, 1),
        Raises(unruly.RefusesAttributes),
    ),
]


@matrix(WAYS)
def test_in_whatever_way_it_is_run(same_loop: Any, context: str, fault: Fault) -> None:
    same_loop(survive(context, fault))


def send_acting(when: str) -> str:
    """Send a message that acts, and then one that does not."""
    try:
        current_task().channel.send(hostile.give_acting(when))
    except SerializationError:
        return "refused"
    current_task().channel.send("good")
    return "sent"


@pytest.mark.parametrize("when", ["in pickle", "in load"])
def test_a_message_that_exits_on_its_way_costs_that_message_alone(same_loop: Any, when: str) -> None:
    async def talk() -> None:
        async with WorkerPool(1) as pool:
            execution = pool.submit(send_acting, when)
            if when == "in load":
                with pytest.raises(SerializationError):
                    await execution.channel.receive()
                assert await execution.channel.receive() == "good"
            assert await execution == ("refused" if when == "in pickle" else "sent")
            assert await pool.submit(tasks.echo, 1) == 1

    same_loop(talk())


@pytest.mark.parametrize("context", CONTEXTS)
def test_callbacks_on_an_execution_that_raise_are_the_loops_affair(same_loop: Any, context: str) -> None:
    told: list[Any] = []

    async def call_back() -> None:
        loop = asyncio.get_running_loop()
        usual = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            executions = [pool.submit(tasks.echo, number) for number in range(3)]
            for execution in executions:
                execution.add_done_callback(lambda _: hostile.act("raises"))
            assert await asyncio.gather(*executions) == [0, 1, 2]
            assert await pool.submit(tasks.echo, 3) == 3
        loop.set_exception_handler(usual)

    same_loop(call_back())
    assert [type(error) for error in told] == [ValueError] * 3


@pytest.mark.parametrize("context", [context for context in CONTEXTS if context != "exec"])
def test_a_callback_that_exits_ends_the_loop_and_the_pool_goes_on(
    request: pytest.FixtureRequest, context: str
) -> None:
    make_loop = None
    if request.config.getoption("--uvloop"):
        import uvloop

        make_loop = uvloop.new_event_loop
    pool = WorkerPool(1, factory=CONTEXTS[context]())

    async def exit_in_callback() -> None:
        execution = pool.submit(tasks.echo, 1)
        execution.add_done_callback(lambda _: hostile.act("exits"))
        await asyncio.sleep(60)

    async def go_on() -> Any:
        return await pool.submit(tasks.echo, 2)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        with pytest.raises(SystemExit):
            runner.run(exit_in_callback())
        assert runner.run(go_on()) == 2
        assert runner.run(pool.shutdown()) == 0


@pytest.mark.parametrize("how", ["raises", "exits", "dies"])
def test_through_an_executor(how: str) -> None:
    error = {"raises": ValueError, "exits": TaskFailed, "dies": WorkerCrashed}[how]
    with Executor(1) as executor:
        bad, good = executor.submit(hostile.act, how), executor.submit(abs, -1)
        assert isinstance(bad.exception(60), error)
        assert good.result(60) == 1
        assert executor.submit(os.getpid).result(60)


@pytest.mark.filterwarnings("ignore:an interpreter can't be killed")  # its task may have just returned
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_lease_whose_worker_is_killed_is_over_and_the_pool_is_not(same_loop: Any, context: str) -> None:
    async def lease() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            leased = pool.get_worker()
            await leased.submit(tasks.echo, 1)
            leased.kill()
            with pytest.raises(StatusError):
                leased.submit(tasks.echo, 2)
            await leased.shutdown()
            assert await pool.submit(tasks.echo, 3) == 3

    same_loop(lease())


CLOSING = {"raises": ValueError, "exits": TaskFailed}


@pytest.mark.parametrize("context", ["process", "thread"])
@pytest.mark.parametrize("how", CLOSING)
def test_a_generator_that_acts_when_it_is_closed_holds_up_nobody(
    same_loop: Any, context: str, how: str
) -> None:
    async def close() -> None:
        async with WorkerPool(1, factory=CONTEXTS[context]()) as pool:
            before = await pool.submit(tasks.identity)
            stream = pool.stream(hostile.act_when_closed, how)
            async for _ in stream:
                break
            await stream.aclose()
            assert issubclass(type(stream.execution.exception()), CLOSING[how])
            assert await pool.submit(tasks.identity) == before

    same_loop(close())
