"""Loading what workers send, with no garbage collection in the midst of much."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from offloop import WorkerPool
from offloop.contexts.loading import LONG, without_collections


class Collecting:
    """Knows whether the collector was on when it was loaded."""

    def __init__(self, is_on: bool = True) -> None:
        self.is_on = is_on

    def __reduce__(self) -> object:
        return make_collecting, ()


def make_collecting() -> Collecting:
    return Collecting(gc.isenabled())


def give(size: int) -> tuple[str, Collecting]:
    return "x" * size, Collecting()


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


@pytest.mark.parametrize(("size", "is_on"), [(1, True), (LONG, False), (200_000, False)])
async def test_the_collector_is_off_while_a_long_result_is_loaded(size: int, is_on: bool) -> None:
    async with WorkerPool(1) as pool:
        _, loaded = await pool.submit(give, size)
    assert loaded.is_on is is_on
    assert gc.isenabled()


@pytest.mark.parametrize("error", [OSError(), KeyboardInterrupt()])
def test_it_is_on_again_after_a_failure(error: BaseException) -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise error

    with pytest.raises(type(error)):
        without_collections(fail)
    assert gc.isenabled()


def test_a_program_without_collector_stays_without_it() -> None:
    gc.disable()
    assert without_collections(lambda: 1) == 1
    assert not gc.isenabled()


def test_a_process_that_is_forked_meanwhile_has_it_on() -> None:
    def fork() -> int:
        child = os.fork()
        if not child:
            os._exit(gc.isenabled())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert without_collections(fork) == 1
    gc.disable()
    assert without_collections(fork) == 0


async def test_how_long_a_large_result_took_to_load_is_known() -> None:
    async with WorkerPool(1) as pool:
        small, large = pool.submit(give, 1), pool.submit(give, 200_000)
        await small
        await large
    assert small.loading == 0 < large.loading
