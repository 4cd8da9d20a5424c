"""Snapshots as a table, as a dictionary, and compared; what is counted in bytes."""

from __future__ import annotations

import asyncio
import json
import os
import socket

import pytest

from offloop import Histogram, RunningTask, Statistics, WorkerStatistics
from offloop.child.exchange import Copy, WithDescriptor
from offloop.contexts.outbox import Outbox
from offloop.observe import snapshot
from offloop.observe.histogram import Recorder
from offloop.observe.snapshot import resident_memory
from offloop.wire.frames import RESULT, FrameDecoder, frame


def histogram(*seconds: float) -> Histogram:
    recorder = Recorder()
    recorder.record_many(seconds)
    return recorder.snapshot()


def worker(**changes: object) -> WorkerStatistics:
    usual: dict[str, object] = {
        "worker_id": 1, "state": "idle", "pid": 12, "seconds": 9.0, "done": 3, "sent": 0, "running": (),
        "busy_seconds": 2.0, "rss": 12_345_678, "bytes_out": 10, "bytes_in": 20,
    }  # fmt: skip
    return WorkerStatistics(**{**usual, **changes})  # type: ignore[arg-type]


def statistics(**changes: object) -> Statistics:
    usual: dict[str, object] = {
        "time": 1.0, "context": "process", "submitted": 6, "queued": 1, "sent": 2, "running": 1,
        "succeeded": 2, "failed": 0,
        "cancelled": 0, "timed_out": 1, "crashed": 0, "killed": 0, "workers": (), "started": 2,
        "restarts": 1, "crashes": 1, "failed_starts": 0, "busy_seconds": 2.0, "capacity_seconds": 8.0,
        "bytes_out": 999, "bytes_in": 1_500_000, "wait": Histogram(), "run": histogram(0.0005, 0.25, 90.0),
    }  # fmt: skip
    return Statistics(**{**usual, **changes})  # type: ignore[arg-type]


def test_the_table() -> None:
    running = (RunningTask("resize('a')", 0.5), RunningTask("b()", 0.25))
    workers = worker(state="busy", running=running, sent=2), worker(worker_id=2, pid=None, rss=None)
    assert str(statistics(workers=workers)).splitlines() == [
        "tasks    6: 1 queued, 2 sent, 1 running, 2 succeeded, 1 timed out",
        "wait     -",
        "run      p50 257.8 ms, p90 90.0 s, p99 90.0 s, max 90.0 s",
        "context  process",
        "workers  2 (1 idle, 1 busy): 2 started, 1 restarts, 1 crashes",
        "busy     25% of the workers' time",
        "bytes    999 B out, 1.5 MB in",
        "",
        "worker  state         pid     done   sent    memory  current task",
        "     1  busy           12        3      2   12.3 MB  resize('a') for 500.0 ms and 1 more",
        "     2  idle            -        3      0         -",
    ]


def test_a_task_that_is_named_by_hostile_text_stays_on_its_line() -> None:
    running = (RunningTask("a\n\x1b[2Jb\u2028c", 0.000002),)
    assert str(statistics(workers=(worker(running=running),))).endswith("  a??[2Jb?c for 2.0 µs")


def test_the_dictionary_is_json_and_complete() -> None:
    running = (RunningTask("b()", 0.25),)
    now = statistics(workers=(worker(running=running),))
    plain = now.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain) == {*Statistics.__dataclass_fields__, "done", "busy_fraction", "worker_states"}
    assert (plain["done"], plain["busy_fraction"]) == (3, 0.25)
    assert plain["workers"][0]["running"] == [{"task": "b()", "seconds": 0.25}]
    assert plain["run"]["count"] == 3


def test_since_subtracts_what_grows_and_keeps_the_rest() -> None:
    later = statistics(
        time=5.0, submitted=16, queued=4, succeeded=9, busy_seconds=5.0, capacity_seconds=12.0,
        run=histogram(0.0005, 0.25, 90.0, 0.001),
    )  # fmt: skip
    between = later.since(statistics())
    assert (between.submitted, between.succeeded, between.timed_out, between.started) == (10, 7, 0, 0)
    assert (between.queued, between.sent, between.time) == (4, 2, 5.0)
    assert between.busy_fraction == 0.75
    assert between.run.count == 1
    assert between.run.max == pytest.approx(0.001, rel=1 / 16)


def test_the_current_task_is_the_one_that_has_run_longest() -> None:
    assert worker().current_task is None
    assert worker(running=(RunningTask("a", 2.0), RunningTask("b", 1.0))).current_task == "a"


@pytest.mark.parametrize("step", [1, 7, 40, 1 << 20])
def test_a_decoder_counts_every_byte_once(step: int) -> None:
    data = frame(RESULT, b"small") + frame(RESULT, bytes(300_000)) + frame(RESULT, b"behind it")
    step = max(step, len(data) // 5_000) if step < 40 else step
    decoder = FrameDecoder(1 << 20)
    records = [record for at in range(0, len(data), step) for record in decoder.feed(data[at : at + step])]
    assert len(records) == 3
    assert decoder.taken == len(data)


def test_a_decoder_counts_what_was_received_into_its_memory() -> None:
    data = frame(RESULT, bytes(300_000))
    decoder = FrameDecoder(1 << 20)
    decoder.feed(data[:1000])
    wanted = decoder.wanted
    assert wanted is not None
    wanted[:] = data[1000:]
    assert len(decoder.filled(len(wanted))) == 1
    assert decoder.taken == len(data)


async def test_an_outbox_counts_what_is_written_and_copied_whether_or_not_it_goes_out_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        outbox = Outbox(asyncio.get_running_loop(), ours, pytest.fail)
        outbox.write([b"12345"])
        assert outbox.written == 5
        outbox.write([bytes(5_000_000)])  # more than the socket takes
        assert outbox.written == 5_000_005
        segment = memoryview(bytearray(100))
        outbox.write(
            [Copy(segment, memoryview(bytes(100))), WithDescriptor(b"123", ours.dup().detach()), b"1"]
        )
        assert outbox.written == 5_000_109
        outbox.close()
        outbox.write([b"never"])
        assert outbox.written == 5_000_109


@pytest.mark.parametrize("has_proc", [True, False])
def test_resident_memory_is_known_with_and_without_proc(
    has_proc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(ended, 0)
    monkeypatch.setattr(snapshot, "_PROC", has_proc)
    if not has_proc:

        def missing(*_: object) -> None:
            raise FileNotFoundError

        monkeypatch.setattr(snapshot, "open", missing, raising=False)
    memory = resident_memory(os.getpid())
    assert memory is not None
    assert 1 << 20 < memory < 1 << 40
    assert resident_memory(ended) is None
    assert resident_memory(None) is None
