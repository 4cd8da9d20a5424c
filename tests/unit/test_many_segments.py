"""More large results than the system lets a process map."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np
import pytest
from segment_peers import SIZE, Peers, open_descriptors, peers
from support import arrays

from offloop import WorkerPool
from offloop.shm import mapping
from offloop.shm.imports import Imports
from offloop.shm.ledger import sealed_memory
from offloop.shm.segments import SegmentPool

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memfds")

__all__ = ["peers"]

LARGE = 100_000


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Only a few more segments may be mapped."""
    gc.collect()
    monkeypatch.setattr(mapping, "MOST_MAPS", len(mapping._maps) + 4)
    return 4


async def test_results_beyond_them_are_copies(few: int) -> None:
    async with WorkerPool(1) as pool:
        await pool.submit(arrays.numbers, LARGE)
        before = open_descriptors()
        kept: list[Any] = [await pool.submit(arrays.numbers, LARGE, start) for start in range(5 * few)]
        assert arrays.segment_bytes() < 2 * few * LARGE
        assert open_descriptors() <= before + 1, "that of the segment which is used again and again"
        for start, array in enumerate(kept):
            assert np.array_equal(array, arrays.numbers(LARGE, start))
            array[:] = 0
        kept.clear()
    assert arrays.segment_bytes() == 0


@pytest.mark.filterwarnings("error")
async def test_arguments_beyond_them_go_by_the_socket(few: int) -> None:
    async with WorkerPool(1) as pool:
        sent = [arrays.numbers(LARGE, start) for start in range(3 * few)]
        held = [pool.submit(arrays.keep, array) for array in sent]
        assert [np.array_equal(await got, array) for got, array in zip(held, sent, strict=True)] == [
            True
        ] * 3 * few


def test_a_buffer_in_a_segment_that_is_not_mapped_is_copied_and_its_loan_ends(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offloop.shm.imports.has_room", lambda: False)
    before = open_descriptors()
    number, (first, second) = peers.lend(SIZE, 100)
    assert peers.told == [(number, False)] * 2
    assert (len(first), len(second)) == (SIZE, 100)
    peers.pool.view(number)[:] = bytes([1]) * len(peers.pool.view(number))
    assert not any(first)
    peers.imports.decline(number)
    assert peers.told[-1] == (number, False)
    again, (view,) = peers.lend(SIZE)
    assert bytes(view) == bytes([1]) * SIZE
    peers.imports.drop(again)
    peers.imports.close()
    assert open_descriptors() == before


def test_a_loan_beyond_a_segment_that_is_not_mapped_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offloop.shm.imports.has_room", lambda: False)
    imports = Imports(lambda number, spent: None)
    imports.add(1, sealed_memory("test", 4096), 4096)
    with pytest.raises(OSError, match="beyond"):
        imports.borrow(1, 0, 5000)
    imports.close()


def test_there_is_no_new_segment_beyond_them_but_a_free_one_is_used(few: int) -> None:
    pool = SegmentPool()
    segments = [pool.obtain(SIZE) for _ in range(few)]
    assert None not in segments
    assert pool.obtain(SIZE) is None
    first = segments[0]
    assert first is not None
    pool.lend(first, [SIZE])
    pool.returned(first.number)
    assert pool.obtain(SIZE) is first
    pool.close()
    del segments, first
    gc.collect()
    assert mapping.has_room()
