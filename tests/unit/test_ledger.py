"""The ledger: whenever it is read, and whenever its writer dies, it tells the truth."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from itertools import combinations_with_replacement
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from offloop.child.port import SocketPort
from offloop.shm.ledger import (
    GENERATION,
    JOURNAL_END,
    LENGTH,
    MAX_SLOTS,
    RING_END,
    SIZE,
    SLOTS,
    Ledger,
    create_file,
)
from offloop.wire.frames import RESULT, FrameDecoder, Record

LIMIT = 1 << 24
RING = RING_END - JOURNAL_END
Pair = tuple[Ledger, Ledger]


@pytest.fixture
def views() -> Iterator[Pair]:
    """The worker's and the parent's view of one page."""
    fd = create_file()
    parent = Ledger(fd, 2)
    worker = Ledger(fd)
    os.close(fd)
    true = [(view, view.words, view.journal) for view in (worker, parent)]
    yield worker, parent
    for view, words, journal in true:  # a test may have put something else in their place
        view.words, view.journal = words, journal
        view.close()


def decode(data: bytes) -> list[Record]:
    decoder = FrameDecoder(LIMIT)
    records = decoder.feed(data)
    assert not decoder.mid_frame, "whole frames only"
    return records


class State:
    """What another process would see at one moment: the page's words and journal, and what was sent."""

    def __init__(self, words: list[int], journal: bytes, sent: bytes) -> None:
        self.words = words
        self.journal = journal
        self.sent = sent


class Recorder:
    """Stands for a worker's socket and words, and takes down the state at every access."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.words = ledger.words
        self.sent = b""
        self.states: list[State] = []
        self.take()

    def take(self) -> None:
        journal = bytes(self.ledger.journal[:1024])
        if self.states and self.states[-1].journal != journal:
            # Nothing says in which order the bytes of a frame are seen to be written.
            torn = bytes(
                a if n % 2 else b
                for n, (a, b) in enumerate(zip(self.states[-1].journal, journal, strict=True))
            )
            self.states.append(State(self.states[-1].words, torn, self.states[-1].sent))
        self.states.append(State(list(self.words), journal, self.sent))

    def __getitem__(self, index: int) -> int:
        return self.words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self.take()
        self.words[index] = value
        self.take()

    def sendall(self, data: memoryview, flags: int = 0) -> None:
        for cut in (1, len(data) // 2):
            self.states.append(
                State(list(self.words), self.states[-1].journal, self.sent + bytes(data[:cut]))
            )
        self.sent += bytes(data)
        self.take()

    def settimeout(self, timeout: float | None) -> None:
        """Never waits."""


#: An outlet that has nothing to say.
SILENT: Any = SimpleNamespace(line=())

#: What a worker does: results of these tasks, with a flush after some.
TASKS = [(1, 10), (2, "flush"), (3, "x" * 50), (4, None), (5, "flush"), (6, 7)]


def record_worker(worker: Ledger) -> list[State]:
    recorder: Any = Recorder(worker)
    worker.words = recorder
    port = SocketPort(recorder, worker, LIMIT, SILENT)
    for id, value in TASKS:
        port.running(0, id, id / 10)
        port.result(id, value, id / 10, id / 10 + 0.01)
        if value == "flush":
            port.flush()
    recorder.take()
    return recorder.states


class Interleaved:
    """The parent's words and journal, of which each access sees the page at a later, given state."""

    def __init__(self, states: list[State]) -> None:
        self.states = iter(states)

    def __getitem__(self, index: int | slice) -> Any:
        state = next(self.states)
        return state.words[index] if isinstance(index, int) else state.journal[index]


class TestJournal:
    def test_a_reader_gets_whole_frames_or_nothing_whatever_happens_while_it_reads(self, views: Pair) -> None:
        worker, parent = views
        states = record_worker(worker)
        whole = {id: decode_all(states[-1])[id] for id, _ in TASKS}
        assert len(states) > 20
        outcomes = set()
        for moments in combinations_with_replacement(range(len(states)), 4):
            seen: Any = Interleaved([states[moment] for moment in moments])
            parent.words = parent.journal = seen
            data = parent.unsent()
            assert not list(seen.states), "it reads generation, length, journal and generation"
            records = decode(data)
            assert all(record == whole[record[3]] for record in records)
            first, last = states[moments[0]], states[moments[-1]]
            known = {record[3] for record in records} | {record[3] for record in complete(last.sent)}
            assert known >= {record[3] for record in complete(first.sent)} | journalled(first), (
                "nothing is lost"
            )
            outcomes.add((bool(records), first.words[GENERATION] == last.words[GENERATION]))
        assert (True, True) in outcomes
        assert (False, False) in outcomes

    def test_whenever_the_worker_dies_the_running_task_is_known_and_what_ended_is_found(
        self, views: Pair
    ) -> None:
        worker, parent = views
        for state in record_worker(worker):
            seen: Any = Interleaved([state] * 4)
            parent.words = parent.journal = seen
            ended = {record[3] for record in [*complete(state.sent), *decode(parent.unsent())]}
            running = state.words[SLOTS]
            assert ended >= set(range(1, running)), "what came before it has ended"
            assert ended <= set(range(1, running + 1)), "what comes behind it has not begun"

    @pytest.mark.usefixtures("restless")
    def test_a_living_writer_in_another_thread_is_never_seen_half_way(self, views: Pair) -> None:
        worker, parent = views
        ours, theirs = socket.socketpair()
        port = SocketPort(theirs, worker, LIMIT, SILENT)  # type: ignore[arg-type]
        count = 3000

        def write() -> None:
            for id in range(1, count + 1):
                port.running(0, id, 0.0)
                port.result(id, "y" * (id % 300), 0.0, 0.0)
                if id % 7 == 0:
                    port.flush()
            port.flush()
            theirs.close()

        read = bytearray()
        thread = threading.Thread(target=write)
        try:
            thread.start()
            ours.setblocking(False)
            while True:
                check_results(decode(parent.unsent()))
                try:
                    data = ours.recv(1 << 16)
                except BlockingIOError:
                    continue
                read += data
                if not data:
                    break
        finally:
            ours.close()
            thread.join()
        records = decode(bytes(read))
        check_results(records)
        assert [record[3] for record in records] == list(range(1, count + 1))

    def test_more_than_it_holds_is_sent_before_and_in_order(self, views: Pair) -> None:
        worker, parent = views
        recorder: Any = Recorder(worker)
        port = SocketPort(recorder, worker, LIMIT, SILENT)
        size = worker.capacity // 3
        for id in range(1, 6):
            port.result(id, "z" * size, 0.0, 0.0)
        port.result(6, None, 0.0, 0.0)
        known = [record[3] for record in [*complete(recorder.sent), *decode(parent.unsent())]]
        assert known == [1, 2, 3, 4, 5, 6]
        port.flush()
        assert parent.unsent() == b""
        assert [record[3] for record in complete(recorder.sent)] == [1, 2, 3, 4, 5, 6]

    def test_a_length_that_cannot_be_is_not_believed(self, views: Pair) -> None:
        worker, parent = views
        worker.words[LENGTH] = 1 << 60
        assert len(parent.unsent()) == parent.capacity


def check_results(records: list[Record]) -> None:
    for record in records:
        assert record[0] == RESULT
        assert pickle.loads(record[6]) == "y" * (record[3] % 300)
    ids = [record[3] for record in records]
    assert ids == list(range(ids[0], ids[0] + len(ids))) if ids else True


def complete(stream: bytes) -> list[Record]:
    """The frames that have come in full."""
    return FrameDecoder(LIMIT).feed(stream)


def journalled(state: State) -> set[int]:
    return {record[3] for record in decode(state.journal[: state.words[LENGTH]])}


def decode_all(state: State) -> dict[int, Record]:
    records = [*complete(state.sent), *decode(state.journal[: state.words[LENGTH]])]
    return {record[3]: record for record in records}


class TestRunning:
    def test_each_slot_is_told_with_its_start(self, views: Pair) -> None:
        worker, parent = views
        port = SocketPort(Recorder(worker), worker, LIMIT, SILENT)  # type: ignore[arg-type]
        assert parent.running() == []
        port.running(0, 7, 1.5)
        port.running(1, 9, 2.5)
        assert parent.running() == [(7, 1.5), (9, 2.5)]
        port.running(0, 0, 0.0)
        assert parent.running() == [(9, 2.5)]

    def test_no_task_0_is_told_when_one_ends_meanwhile(self, views: Pair) -> None:
        worker, parent = views
        words = parent.words
        worker.words[SLOTS] = 7

        class EndsAfterOneLook:
            def __getitem__(self, index: int) -> int:
                found = words[index]
                worker.words[SLOTS] = 0
                return found

        ends: Any = EndsAfterOneLook()
        parent.words = ends
        assert parent.running() == [(7, 0.0)]
        assert parent.running() == []

    def test_the_worker_learns_the_number_of_slots_from_the_page(self) -> None:
        fd = create_file()
        parent, worker = Ledger(fd, MAX_SLOTS), Ledger(fd)
        assert worker.slots == MAX_SLOTS
        assert worker.capacity > JOURNAL_END // 4
        port = SocketPort(Recorder(worker), worker, LIMIT, SILENT)  # type: ignore[arg-type]
        port.running(MAX_SLOTS - 1, 5, 0.5)
        port.result(1, "x" * 1000, 0.0, 0.0)
        assert parent.running() == [(5, 0.5)]
        worker.close()
        parent.close()
        os.close(fd)

    def test_more_slots_than_the_page_holds_are_refused(self) -> None:
        fd = create_file()
        with pytest.raises(ValueError, match=str(MAX_SLOTS)):
            Ledger(fd, MAX_SLOTS + 1)
        os.close(fd)


class TestLastWords:
    @given(st.lists(st.binary(max_size=2 * RING + 10) | st.binary(max_size=20), max_size=8))
    def test_the_end_of_what_was_said_is_kept(self, said: list[bytes]) -> None:
        fd = create_file()
        parent, worker = Ledger(fd, 1), Ledger(fd)
        for data in said:
            worker.say(memoryview(data))
        assert parent.last_words() == b"".join(said)[-RING:].decode(errors="replace")
        assert parent.stack() is None
        worker.close()
        parent.close()
        os.close(fd)

    @pytest.mark.parametrize("size", [RING - 1, RING, RING + 1, 2 * RING, 2 * RING + 1])
    def test_around_the_size_of_the_ring(self, views: Pair, size: int) -> None:
        worker, parent = views
        data = bytes(ord("a") + n % 26 for n in range(size))
        for at in range(0, size, 100):
            worker.say(data[at : at + 100])
        assert parent.last_words() == data[-RING:].decode()

    def test_a_stack_written_through_the_descriptor_is_found(self) -> None:
        fd = create_file()
        ledger = Ledger(fd, 1)
        ledger.say(b"stderr")
        os.pwrite(fd, b"Fatal Python error: Segmentation fault", RING_END)
        assert ledger.stack() == "Fatal Python error: Segmentation fault"
        assert ledger.last_words() == "stderr"
        ledger.close()
        os.close(fd)

    def test_a_stack_too_long_for_its_room_is_cut_and_spoils_nothing(self) -> None:
        fd = create_file()
        ledger = Ledger(fd, 1)
        ledger.running()
        ledger.say(b"stderr")
        before = bytes(ledger.journal)
        os.lseek(fd, RING_END, os.SEEK_SET)
        for _ in range(2000):
            with contextlib.suppress(OSError):  # faulthandler takes no notice either
                os.write(fd, b'  File "/a/path/that/is/rather/long/module.py", line 1 in function\n')
        stack = ledger.stack()
        assert stack is not None
        assert len(stack) == SIZE - RING_END
        assert ledger.last_words() == "stderr"
        assert bytes(ledger.journal) == before
        ledger.close()
        os.close(fd)
