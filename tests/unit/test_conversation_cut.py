"""What a worker process says, cut or spoilt at each byte: every execution ends once, and as it should."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import pytest
from linkends import Hand
from recording import (
    Recording,
    borders,
    complete,
    enqueue_all,
    in_bulk,
    outcome,
    record,
    send_all_in_band,
    spoilt,
)
from support.bounds import LoopRunner

from offloop import WorkerCrashed
from offloop.contexts.imports import importable
from offloop.contexts.starters import LIMIT
from offloop.wire import frames
from offloop.wire.definitions import Definitions
from offloop.wire.frames import (
    HEADER,
    HEADER_SIZE,
    LARGE,
    MAGIC,
    READY,
    RESULT,
    frame,
)

#: Tasks that are replayed at a time.
BATCH = 32
#: In place of the outcome of a task that was told wrongly.
SETTLED = object()


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Recorded once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorded: Recording = LoopRunner(None)(record(monkeypatch))
    return recorded


async def replay(definitions: Definitions, beginning: int, data: bytes, control: bytes) -> list[Any]:
    """Say this to a parent, then let the worker die; returns what becomes of the tasks.

    They are sent when so many bytes were said.
    """
    hand = Hand(send_all_in_band, definitions)
    futures = enqueue_all(hand.worker)
    is_ready = any(record[0] == READY for record in complete(data[:beginning]))
    await hand.begin(data[:beginning], is_ready=is_ready)
    hand.end.say(data[beginning:], control)
    hand.end.data.close()
    hand.end.control.close()
    await asyncio.wait(futures)
    assert hand.worker._dispatcher.outstanding == 0
    await hand.close()
    return [
        ...
        if isinstance(each.exception() if not each.cancelled() else None, WorkerCrashed)
        else outcome(each)
        for each in futures
    ]


async def replay_all(beginning: int, said: Iterable[tuple[bytes, bytes]]) -> list[list[Any]]:
    """`replay` of each; many at a time."""
    definitions, waiting, found = Definitions(importable), list(said), []
    for at in range(0, len(waiting), BATCH):
        found += await asyncio.gather(
            *(replay(definitions, beginning, *each) for each in waiting[at : at + BATCH])
        )
    return found


async def test_cut_at_each_byte_every_task_ends_with_its_outcome_or_the_workers_death(
    recording: Recording,
) -> None:
    data = recording.data
    (large,) = (at for at in borders(data)[:-1] if HEADER.unpack_from(data, at)[5] >= LARGE)
    behind = large + HEADER_SIZE + LARGE
    start = recording.beginning - HEADER_SIZE
    cuts = [
        *range(0, start, 97),
        *range(start, large + HEADER_SIZE),
        *range(large + HEADER_SIZE, behind, 7_001),
        *range(behind, len(data) + 1),
    ]
    found = await replay_all(recording.beginning, ((data[:cut], recording.control) for cut in cuts))
    for cut, ends in zip(cuts, found, strict=True):
        if cut < recording.beginning:
            assert all("WorkerStartError" in str(end) for end in ends)
        else:
            assert ends == recording.expected(cut), f"cut at {cut}"
    assert found[-1] == recording.outcomes


async def test_cut_at_each_byte_of_what_tasks_say_beside_their_outcomes_all_end_as_they_did(
    recording: Recording,
) -> None:
    said = ((recording.data, recording.control[:cut]) for cut in range(len(recording.control) + 1))
    assert all(ends == recording.outcomes for ends in await replay_all(recording.beginning, said))


#: What may stand where a frame should begin; whatever comes after it is not looked at.
GARBAGE = {
    "noise": b"\xff" * 1000,
    "text": b"Traceback (most recent call last):\n" * 3,
    "a frame that is too large": HEADER.pack(MAGIC, RESULT, 0, 0, 2, LIMIT + 1, 0.0, 0.0),
    "the largest number": HEADER.pack(MAGIC, RESULT, 0, 0, 2, (1 << 64) - 1, 0.0, 0.0),
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_between_two_frames_costs_the_worker_and_what_came_before_holds(
    garbage: str, recording: Recording
) -> None:
    data, bad = recording.data, GARBAGE[garbage]
    places = [at for at in borders(data) if at >= recording.beginning]
    said = ((data[:at] + bad + data[at:], recording.control) for at in places)
    for at, ends in zip(places, await replay_all(recording.beginning, said), strict=True):
        assert ends == recording.expected(at)
    said = ((data, recording.control[:at] + bad) for at in borders(recording.control))
    for ends in await replay_all(recording.beginning, said):
        assert ends == recording.outcomes


#: Every kind of frame, and some that are none.
KINDS = [0, 11, 31, 60, 79, 90, 255]
KINDS += [number for number in vars(frames).values() if type(number) is int and 0 < number < 256]


async def test_frames_of_every_kind_with_nonsense_in_them_keep_no_task_from_ending(
    recording: Recording,
) -> None:
    nonsense = [
        frame(kind, payload, id=id, flags=flags)
        for kind in KINDS
        for payload in (b"", b"\x80\x05K\x01.", b"1234567")
        for id, flags in ((2, 0), (77, 3))
    ]
    at, wrong = recording.beginning, [SETTLED, *recording.outcomes[2:]]
    said = ((recording.data[:at] + bad + recording.data[at:], recording.control) for bad in nonsense)
    for ends in await replay_all(at, said):
        assert [SETTLED, *ends[2:]] == wrong or ... in ends
    said = ((recording.data, bad + recording.control) for bad in nonsense)
    for ends in await replay_all(at, said):
        assert ends == recording.outcomes or ... in ends


async def test_a_worker_that_says_too_late_that_it_could_not_start_is_ended(recording: Recording) -> None:
    at = recording.beginning
    for payload in b"", b"1234567":
        said = recording.data[:at] + frame(frames.REFUSED, payload)
        (ends,) = await replay_all(at, [(said, b"")])
        assert ends == recording.expected(at)


async def test_a_byte_that_is_spoilt_keeps_no_task_from_ending(recording: Recording) -> None:
    choice = random.Random(1)
    every_other = range(recording.beginning, len(recording.data), 2)
    places = [at for at in every_other if not in_bulk(recording.data, at)]
    said = ((spoilt(recording.data, at, choice), recording.control) for at in places)
    for ends in await replay_all(recording.beginning, said):
        assert len(ends) == len(recording.outcomes)
    beside = range(len(recording.control))
    said = ((recording.data, spoilt(recording.control, at, choice)) for at in beside)
    for ends in await replay_all(recording.beginning, said):
        assert ends == recording.outcomes or ... in ends


async def test_a_worker_that_says_nonsense_is_ended_though_it_goes_on(recording: Recording) -> None:
    """Else what it says later could be understood wrongly, or never come."""
    data = recording.data[: recording.beginning]
    for bad_data, bad_control in [
        (frame(frames.RETIRE, b"1234567"), b""),
        (frame(frames.SEGMENT, b"1234567"), b""),
        (frame(frames.LOANS, b"1234567"), b""),
        (b"\xff" * HEADER_SIZE, b""),
        (b"", frame(frames.RETURNED, b"1234567")),
        (b"", frame(frames.REPORT, b"no pickle", id=2)),
        (b"", b"\xff" * HEADER_SIZE),
    ]:
        hand = Hand(send_all_in_band, Definitions(importable))
        futures = enqueue_all(hand.worker)
        await hand.begin(data, is_ready=True)
        hand.end.say(bad_data, bad_control)
        await asyncio.wait(futures)
        for future in futures:
            assert isinstance(future.exception(), WorkerCrashed)
            assert "it said what makes no sense" in str(future.exception())
        await hand.close()
