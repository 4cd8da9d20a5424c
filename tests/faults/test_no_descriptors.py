"""A worker that has no descriptor left: what its tasks come to is told all the same."""

from __future__ import annotations

import os
from typing import Any

import pytest
from support import arrays, descriptors

from offloop import ProcessWorkerFactory, RemoteTraceback, SerializationError, WorkerPool

SIZE = 2 << 20


@pytest.mark.parametrize("start_method", ["template", "exec"])
async def test_a_task_that_uses_up_the_descriptors_fails_as_it_does_and_the_worker_lives_on(
    start_method: Any,
) -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method=start_method)) as pool:
        worker = await pool.submit(os.getpid)
        with pytest.raises(OSError, match="Too many open files") as caught:
            await pool.enqueue(descriptors.UseUp())  # the worker's first failure
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        with pytest.raises(SerializationError, match="could not be loaded in the worker: ValueError"):
            await pool.submit(repr, descriptors.FailsWhenLoaded())
        with pytest.raises(SerializationError, match="lock"):
            await pool.submit(descriptors.new_lock)
        assert await pool.submit(abs, -1) == 1
        assert await pool.enqueue(descriptors.GiveBack()) > 0
        assert await pool.submit(os.getpid) == worker


async def test_a_large_result_of_a_worker_without_descriptors_goes_by_the_socket() -> None:
    with pytest.warns(RuntimeWarning, match="no shared memory for large arguments and results"):
        await large_result_without_descriptors()


async def large_result_without_descriptors() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(OSError, match="Too many open files"):
            await pool.enqueue(descriptors.UseUp())
        assert await pool.submit(descriptors.big_result) == descriptors.big_result()
        await pool.enqueue(descriptors.GiveBack())


@pytest.mark.parametrize("first", [True, False])
async def test_a_worker_out_of_descriptors_fails_what_it_cannot_take_and_recovers(first: bool) -> None:
    total = arrays.total(arrays.numbers(SIZE))
    async with WorkerPool(1) as pool:
        pid = await pool.submit(os.getpid)
        with pytest.raises(ValueError, match="bytes"):  # what tells of failures is loaded at the first one
            await pool.submit(arrays.fail_with, arrays.numbers(1))
        if not first:  # else not even the code that maps segments can be loaded
            await pool.submit(arrays.total, arrays.numbers(SIZE // 8))
        await pool.submit(arrays.use_up_descriptors)
        with pytest.raises(SerializationError, match=r"(?i)too many open files"):
            await pool.submit(arrays.total, arrays.numbers(SIZE))
        with pytest.warns(RuntimeWarning, match="slowly"):
            assert arrays.total(await pool.submit(arrays.numbers, SIZE)) == total, "by the socket"
        await pool.submit(arrays.free_descriptors)
        assert arrays.total(await pool.submit(arrays.echo, arrays.numbers(SIZE))) == total
        assert await pool.submit(os.getpid) == pid
