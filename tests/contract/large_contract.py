"""Large arguments and results: they arrive whole, and are the receiver's own."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from support import arrays

from contract.base import Context
from offloop.child.layout import THRESHOLD

MANY = 4 * THRESHOLD
DTYPES = ["u1", "i2", "<f4", ">f8", "c16", "M8[ns]", "O", "i4,f8"]

#: Sizes in bytes where something changes.
SIZES = [0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 2 * THRESHOLD, (1 << 18) - 1, (1 << 18) + 1]


def same(left: Any, right: Any) -> bool:
    """Whether two structures of arrays are equal, in type, shape and content."""
    if isinstance(left, np.ndarray):
        return bool(
            type(left) is type(right)
            and left.shape == right.shape
            # Where an array is not contiguous, NumPy pickles it in the machine's byte order.
            and left.dtype.newbyteorder("=") == right.dtype.newbyteorder("=")
            and np.array_equal(left, right)
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and bool(left == right)


def make_array(size: int, dtype: str, order: str, view: str) -> Any:
    """An array of about that many bytes."""
    if dtype == "O":
        return np.array([1, "two", None] * (size // 100), dtype=object)
    kind = np.dtype(dtype)
    flat = np.resize(
        arrays.numbers(min(size, 1 << 16) + kind.itemsize), size // kind.itemsize * kind.itemsize
    )
    array = flat.view(kind)
    if order == "F" and array.size % 2 == 0:
        array = np.asfortranarray(array.reshape(2, -1))
    if view == "strided":
        array = array[..., ::2]
    elif view == "reversed":
        array = array[..., ::-1]
    elif view == "part":
        array = array[..., 1:-1]
    elif view == "read-only":
        array.flags.writeable = False
    return array


any_array = st.builds(
    make_array,
    st.sampled_from([*SIZES, 3 * THRESHOLD + 5]),
    st.sampled_from(DTYPES),
    st.sampled_from(["C", "F"]),
    st.sampled_from(["whole", "strided", "reversed", "part", "read-only"]),
)
any_bytes = st.builds(
    lambda size, kind: kind(arrays.numbers(size)), st.sampled_from(SIZES), st.sampled_from([bytes, bytearray])
)
structures = st.recursive(
    any_array | any_bytes | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
        | st.tuples(inner, inner)
    ),
    max_leaves=5,
)


class LargeContract(Context):
    """Every context."""

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(batch=st.lists(structures, min_size=1, max_size=6), twice=st.booleans())
    def test_any_structure_of_arrays_comes_back_as_it_was(
        self, run_loop: Any, batch: list[Any], twice: bool
    ) -> None:
        async def go() -> None:
            async with self.pool(1) as pool:
                kept: list[Any] = []
                for value in batch:
                    sent = [value, value] if twice else value
                    kept.append(await pool.submit(arrays.echo, sent))
                    assert same(sent, kept[-1])
                for value, got in zip(batch, kept, strict=True):  # nothing was written over meanwhile
                    assert same([value, value] if twice else value, got)

        run_loop(go())

    @pytest.mark.parametrize("echo", ["echo", "aecho"])
    async def test_an_array_comes_back_equal_and_writable(self, echo: str) -> None:
        array = arrays.numbers(MANY)
        async with self.worker() as worker:
            got = await worker.submit(getattr(arrays, echo), array)
        assert same(got, array)
        got[0] = 99

    async def test_an_order_arrives_as_it_was(self) -> None:
        array = np.asfortranarray(arrays.numbers(MANY).reshape(4, -1))
        async with self.worker() as worker:
            assert await worker.submit(arrays.flags_of, array) == (True, False, True)
            assert (await worker.submit(arrays.echo, array)).flags.f_contiguous

    async def test_many_arrays_in_one_message_stay_apart(self) -> None:
        given = [arrays.numbers(THRESHOLD + n, n) for n in range(30)]
        async with self.worker() as worker:
            assert same(await worker.submit(arrays.echo, given), given)

    async def test_views_of_an_argument_come_back(self) -> None:
        array = arrays.numbers(MANY)
        async with self.worker() as worker:
            middle = await worker.submit(arrays.part, array, THRESHOLD, 3 * THRESHOLD)
            assert same(middle, array[THRESHOLD : 3 * THRESHOLD])
            assert same(await worker.submit(arrays.halves, array), arrays.halves(array))
            assert same(await worker.submit(arrays.twice, array), (array, array))
            assert same(await worker.submit(arrays.view_of_view, array), arrays.view_of_view(array))
            assert same(await worker.submit(arrays.with_new, array), (array, array + 1))
            assert same(await worker.submit(arrays.swap, array, middle), (middle, array))

    async def test_a_result_can_be_the_next_argument(self) -> None:
        value = arrays.numbers(MANY)
        async with self.pool(2) as pool:
            for step in range(6):
                value = await pool.submit(arrays.fill, value, step)
                assert (value == step).all()

    async def test_many_results_that_are_kept_stay_as_they_are(self) -> None:
        async with self.pool(2) as pool:
            got = await asyncio.gather(*(pool.submit(arrays.numbers, MANY, n) for n in range(20)))
            more = await asyncio.gather(
                *(pool.submit(arrays.echo, arrays.numbers(MANY, n)) for n in range(20, 40))
            )
        assert all(same(value, arrays.numbers(MANY, n)) for n, value in enumerate(got + more))

    async def test_large_tasks_that_are_cancelled_before_they_start_harm_nobody(self, gate: Any) -> None:
        async with self.pool(1) as pool:
            held = pool.submit(arrays.hold_at_gate, gate.path, arrays.numbers(MANY))
            await gate.arrived()
            behind = [pool.submit(arrays.echo, arrays.numbers(MANY, n)) for n in range(4)]
            behind[0].cancel()
            behind[2].cancel()
            gate.open()
            assert await held == arrays.total(arrays.numbers(MANY))
            assert same(await behind[1], arrays.numbers(MANY, 1))
            assert same(await behind[3], arrays.numbers(MANY, 3))

    async def test_map_over_large_arrays(self) -> None:
        items = [arrays.numbers(THRESHOLD, n) for n in range(20)]
        async with self.pool(2) as pool:
            assert same(await pool.map(arrays.echo, items), items)
            assert same([got async for got in pool.map(arrays.echo, items, chunksize=7)], items)


class LargeCopyContract(Context):
    """Contexts that pickle: no side ever sees what the other changes."""

    async def test_changing_an_argument_in_the_worker_leaves_the_callers_alone(self) -> None:
        array = arrays.numbers(MANY)
        async with self.worker() as worker:
            changed = await worker.submit(arrays.fill, array, 7)
        assert (changed == 7).all()
        assert same(array, arrays.numbers(MANY))

    async def test_changing_the_callers_array_leaves_what_the_worker_keeps_alone(self) -> None:
        array = arrays.numbers(MANY)
        async with self.worker() as worker:
            await worker.submit(arrays.keep, array)
            array[:] = 7
            assert same(await worker.submit(arrays.kept_value), arrays.numbers(MANY))

    async def test_an_argument_that_is_kept_and_returned_is_two_arrays(self) -> None:
        async with self.worker() as worker:
            got = await worker.submit(arrays.keep, arrays.numbers(MANY))
            await worker.submit(arrays.change_kept, 1)
            assert same(got, arrays.numbers(MANY))
            got[:] = 2
            kept = await worker.submit(arrays.kept_value)
            assert (kept == 1).all()
            kept[:] = 3
            assert ((await worker.submit(arrays.kept_value)) == 1).all()

    async def test_an_array_in_the_environment_is_the_workers_own(self) -> None:
        async with self.worker() as worker:
            got = await worker.enqueue(arrays.Keep(arrays.numbers(MANY)))
            await worker.enqueue(arrays.Change(1))
            assert same(got, arrays.numbers(MANY))
            again = await worker.enqueue(arrays.Kept())
            again[:] = 2
            assert ((await worker.enqueue(arrays.Kept())) == 1).all()

    async def test_a_result_that_was_changed_in_place_is_the_callers_own(self) -> None:
        async with self.worker() as worker:
            first = await worker.submit(arrays.fill, arrays.numbers(MANY), 1)
            second = await worker.submit(arrays.fill, first, 2)
            third = await worker.submit(arrays.fill, arrays.numbers(MANY), 3)
            second[0] = 99
        assert (first == 1).all()
        assert (second[1:] == 2).all()
        assert (third == 3).all()

    async def test_an_argument_let_go_while_its_result_was_on_its_way_is_intact(self, gate: Any) -> None:
        async with self.worker() as worker:
            got = await worker.submit(arrays.drop_on_thread_at_gate, gate.path, arrays.numbers(MANY, 1))
            gate.open()
            for start in range(2, 6):
                assert same(
                    await worker.submit(arrays.echo, arrays.numbers(MANY, start)), arrays.numbers(MANY, start)
                )
            assert same(got, arrays.numbers(MANY, 1))

    async def test_a_result_outlives_its_worker_and_stays_writable(self) -> None:
        async with self.worker() as worker:
            made = await worker.submit(arrays.numbers, MANY)
            handed = await worker.submit(arrays.fill, arrays.numbers(MANY), 5)
        gc.collect()
        assert same(made, arrays.numbers(MANY))
        assert (handed == 5).all()
        made[:] = handed

    async def test_an_exception_with_a_large_argument_in_its_frames_harms_nobody(self) -> None:
        async with self.worker() as worker:
            for start in range(3):
                with pytest.raises(ValueError, match=f"{MANY} bytes"):
                    await worker.submit(arrays.fail_with, arrays.numbers(MANY, start))
            assert same(await worker.submit(arrays.echo, arrays.numbers(MANY)), arrays.numbers(MANY))


class LargeSharingContract(Context):
    """Contexts that share objects."""

    async def test_a_large_array_is_the_same_object_at_both_ends(self) -> None:
        array = arrays.numbers(MANY)
        async with self.worker() as worker:
            assert await worker.submit(arrays.echo, array) is array
            assert await worker.submit(arrays.fill, array, 1) is array
        assert (array == 1).all()
