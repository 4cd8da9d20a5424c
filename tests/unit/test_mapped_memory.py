"""Large objects of fresh memory."""

from __future__ import annotations

import pytest

from offloop.shm import mapping
from offloop.shm.mapping import Untouched, copied

PATTERN = bytes(range(256))


@pytest.mark.parametrize("fresh", [1, 1 << 40])
@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 100_001, 3_000_000])
def test_a_copy_is_equal_and_of_its_own(
    monkeypatch: pytest.MonkeyPatch, size: int, kind: type[bytes | bytearray], fresh: int
) -> None:
    monkeypatch.setattr(mapping, "FRESH", fresh)
    source = bytearray((PATTERN * (size // 256 + 1))[:size])
    copy = copied(kind, memoryview(source))
    assert type(copy) is kind
    assert copy == source
    expected = bytes(source)
    source[:] = bytes(size)
    assert copy == expected


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_what_was_written_is_taken_without_a_copy(kind: type[bytes | bytearray]) -> None:
    made = Untouched(kind, 100_000)
    made.view[:] = PATTERN * 390 + PATTERN[:160]
    got = made.take()
    assert type(got) is kind
    assert got == PATTERN * 390 + PATTERN[:160]
    assert made.take() is got
