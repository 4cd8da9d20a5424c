"""How threads wake an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar

import pytest

from offloop.contexts.doorbell import Doorbell


@pytest.fixture(params=["eventfd", "no eventfd", "no descriptors", "no readers"])
def lacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError("no descriptors")

    def no_readers(*_: object) -> None:
        raise NotImplementedError

    if request.param == "no eventfd":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif request.param == "no descriptors":
        monkeypatch.setattr(os, "eventfd", refuse, raising=False)
    elif request.param == "no readers":
        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", no_readers)


def from_threads(doorbell: Doorbell, count: int, each: int, call: object) -> list[threading.Thread]:
    def ring() -> None:
        for _ in range(each):
            doorbell.ring(call)  # type: ignore[arg-type]

    threads = [threading.Thread(target=ring) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.usefixtures("lacking")
async def test_every_call_is_made_on_the_loop_and_once() -> None:
    doorbell = Doorbell(asyncio.get_running_loop())
    made: list[int] = []
    done = asyncio.Event()

    def call() -> None:
        made.append(threading.get_ident())
        if len(made) == 4 * 500:
            done.set()

    threads = from_threads(doorbell, 4, 500, call)
    await done.wait()
    for thread in threads:
        thread.join()
    assert set(made) == {threading.get_ident()}
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(made) == 2000
    doorbell.close()


@pytest.mark.usefixtures("lacking")
async def test_a_call_that_raises_costs_none_of_the_others() -> None:
    loop = asyncio.get_running_loop()
    raised: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    doorbell = Doorbell(loop)
    done = asyncio.Event()

    def fail() -> None:
        raise ValueError

    for call in (fail, fail, done.set):
        doorbell.ring(call)
    await done.wait()
    assert [type(error) for error in raised] == [ValueError, ValueError]
    doorbell.close()


@pytest.mark.usefixtures("lacking")
async def test_nobody_hears_it_once_it_is_closed() -> None:
    doorbell = Doorbell(asyncio.get_running_loop())
    heard: list[int] = []
    doorbell.ring(lambda: heard.append(1))
    doorbell.close()
    doorbell.ring(lambda: heard.append(2))
    doorbell.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert heard == []


@pytest.mark.usefixtures("lacking")
def test_it_can_be_closed_and_rung_after_its_loop() -> None:
    async def make() -> Doorbell:
        return Doorbell(asyncio.get_running_loop())

    before = len(os.listdir("/dev/fd"))
    doorbell = asyncio.run(make())
    doorbell.ring(lambda: None)
    doorbell.close()
    doorbell.ring(lambda: None)
    assert len(os.listdir("/dev/fd")) == before


async def test_what_is_set_where_it_is_made_is_not_set_for_calls() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nothing")
    variable.set("something")
    doorbell = Doorbell(asyncio.get_running_loop())
    seen = asyncio.get_running_loop().create_future()
    doorbell.ring(lambda: seen.set_result(variable.get()))
    assert await seen == "nothing"
    doorbell.close()
