"""Which numbers options may be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from offloop import Executor, ProcessWorkerFactory, WorkerPool
from offloop.checks import as_int, as_int_or_none, check_int, check_options, check_seconds


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_a_whole_number_of_another_library_s_becomes_an_int(value: Any) -> None:
    assert type(as_int("n", value)) is int
    assert as_int_or_none("n", value, 3) == 3


@pytest.mark.parametrize("value", [3.0, "3", True, np.float64(3), np.bool_(True), [3], None])
def test_what_is_none_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="n must be an int"):
        as_int("n", value)


def test_what_is_too_low_is_refused() -> None:
    assert as_int_or_none("n", None, 5) is None
    for check in (as_int, as_int_or_none, check_int):
        with pytest.raises(ValueError, match="n must be at least 5"):
            check("n", 4, 5)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int8(2), Fraction(2)])
def test_seconds_may_be_any_real_number(value: Any) -> None:
    seconds = check_seconds("t", value)
    assert (type(seconds), seconds) == (float, 2.0)


@pytest.mark.parametrize("value", ["2", None, True, 2j, [2]])
def test_seconds_that_are_no_number_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="t must be a number of seconds"):
        check_seconds("t", value)


def test_the_options_of_an_executor_may_be_numpy_s() -> None:
    with Executor(np.int64(1), factory="thread", queue_limit=np.int64(9)) as executor:  # type: ignore[arg-type]
        numbers = executor.map(abs, range(3), chunksize=np.int64(2), buffersize=np.int64(2))  # type: ignore[arg-type]
        assert [*numbers] == [0, 1, 2]
        with pytest.raises(TypeError, match="chunksize must be an int"):
            executor.map(abs, range(3), chunksize=2.0)  # type: ignore[arg-type]


async def test_the_options_of_a_pool_a_task_and_a_map_may_be_numpy_s() -> None:
    options = check_options(np.float32(0.5), np.int64(2), np.int8(1), "key")
    assert [type(value) for value in options.values()] == [float, int, int, str]
    pool = WorkerPool(np.int64(2), factory="thread", min_workers=np.int8(1), queue_limit=np.int64(9))  # type: ignore[arg-type]
    async with pool:
        assert pool.max_workers == 2
        assert type(pool.max_workers) is int
        assert await pool.map(abs, range(3), chunksize=np.int64(2), buffersize=np.int64(4)) == [0, 1, 2]  # type: ignore[arg-type]


def test_the_options_of_a_factory_may_be_numpy_s_and_become_ints() -> None:
    factory = ProcessWorkerFactory(nice=np.int64(1), memory_limit=np.int64(10**9), native_threads=np.uint8(2))  # type: ignore[arg-type]
    assert [type(value) for value in (factory.nice, factory.memory_limit, factory.native_threads)] == [
        int
    ] * 3
