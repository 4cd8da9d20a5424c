"""Large bytes: they arrive whole, and are the receiver's own; NumPy is not needed for that."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from support import tasks

from contract.base import Context
from offloop.child.layout import THRESHOLD

MANY = 4 * THRESHOLD

#: Sizes in bytes where something changes.
SIZES = [0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 2 * THRESHOLD, (1 << 18) - 1, (1 << 18) + 1]


def numbers(size: int, start: int = 0) -> bytes:
    """That many bytes, no two neighbours equal."""
    cycle = bytes((start + n) % 251 for n in range(251))
    return (cycle * (size // 251 + 1))[:size]


class LargeBytesContract(Context):
    """Every context."""

    @pytest.mark.parametrize("size", SIZES)
    async def test_bytes_of_any_size_are_what_they_were(self, size: int) -> None:
        async with self.worker() as worker:
            for kind in (bytes, bytearray):
                value = kind(numbers(size))
                got = await worker.submit(tasks.echo, value)
                assert type(got) is kind
                assert got == value
            got = await worker.submit(tasks.keywords, left=bytes(size), right=bytearray(size))
            assert got == {"left": bytes(size), "right": bytearray(size)}

    async def test_many_that_are_kept_stay_as_they_are(self) -> None:
        async with self.pool(2) as pool:
            got = await asyncio.gather(*(pool.submit(tasks.echo, numbers(MANY, n)) for n in range(20)))
        assert got == [numbers(MANY, n) for n in range(20)]

    @pytest.mark.parametrize("size", [THRESHOLD - 1, THRESHOLD, MANY])
    async def test_what_is_given_twice_is_one_object_there_wherever_it_is(self, size: int) -> None:
        given = bytearray(numbers(size))
        async with self.worker() as worker:
            assert await worker.submit(tasks.are_one, given, [given])
            assert await worker.submit(tasks.are_one, value=given, others=(given, {1: given}))
            assert not await worker.submit(tasks.are_one, given, [bytearray(given)])

    @pytest.mark.parametrize("size", [0, THRESHOLD - 1, MANY])
    async def test_what_a_memoryview_shows_arrives(self, size: int) -> None:
        view = memoryview(numbers(2 * size))
        async with self.worker() as worker:
            for each in (view, view[::2], memoryview(bytearray(view)).cast("B", (2, size)) if size else view):
                assert bytes(await worker.submit(tasks.echo, each)) == each.tobytes()
                assert bytes((await worker.submit(tasks.echo, [each]))[0]) == each.tobytes()

    async def test_map_over_large_bytes(self) -> None:
        items = [numbers(THRESHOLD, n) for n in range(20)]
        async with self.pool(2) as pool:
            assert await pool.map(tasks.echo, items, chunksize=7) == items


class LargeBytesCopyContract(Context):
    """Contexts that pickle: no side ever sees what the other changes."""

    async def test_changing_an_argument_in_the_worker_leaves_the_callers_alone(self) -> None:
        given = bytearray(numbers(MANY))
        async with self.worker() as worker:
            changed = await worker.submit(tasks.overwrite, given, 7)
            assert given == numbers(MANY)
            given[:] = bytes(MANY)
            assert changed == bytes([7]) * MANY

    async def test_changing_the_callers_leaves_what_the_worker_keeps_alone(self) -> None:
        given = bytearray(numbers(MANY))
        async with self.worker() as worker:
            await worker.enqueue(tasks.Remember("kept", given))
            given[:] = bytes(MANY)
            kept: Any = await worker.enqueue(tasks.Recall("kept"))
            assert kept == numbers(MANY)
            kept[:] = bytes(MANY)
            assert await worker.enqueue(tasks.Recall("kept")) == numbers(MANY)

    async def test_a_result_outlives_its_worker_and_stays_writable(self) -> None:
        async with self.worker() as worker:
            got = await worker.submit(tasks.overwrite, bytearray(MANY), 5)
        gc.collect()
        assert got == bytes([5]) * MANY
        got[:] = bytes(MANY)
