"""When a worker asks to be replaced because of its memory."""

from __future__ import annotations

import gc
import os

import pytest

from offloop import LocalEnvironment
from offloop.child import memory
from offloop.child.memory import REST, MemoryGuard, own_memory
from offloop.child.runner import Runner
from offloop.child.turns import Turns
from offloop.wire.frames import RETIRE, unpack_numbers

LIMIT = 100


class Process:
    """Stands for this process's memory, its collector and its clock; and for the port, which takes down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept = 40
        self.garbage = 0
        self.now = 1000.0
        self.collections = 0
        self.said: list[tuple[int, list[int]]] = []
        monkeypatch.setattr(memory, "own_memory", lambda enough: self.kept + self.garbage)
        monkeypatch.setattr(memory, "monotonic", lambda: self.now)
        monkeypatch.setattr(gc, "collect", self.collect)

    def collect(self) -> None:
        self.collections += 1
        self.now += 1.0
        self.garbage = 0

    def say(self, kind: int, payload: bytes) -> None:
        self.said.append((kind, unpack_numbers(payload)))

    def flush(self) -> None:
        """Nothing is kept back."""

    def guard(self) -> MemoryGuard:
        return MemoryGuard(LIMIT, self)  # type: ignore[arg-type]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


def test_below_the_limit_nothing_is_collected_or_said(process: Process) -> None:
    guard = process.guard()
    process.kept = LIMIT
    guard.check()
    assert (process.collections, process.said) == (0, [])


def test_garbage_is_collected_first(process: Process) -> None:
    guard = process.guard()
    process.garbage = 90
    guard.check()
    assert (process.collections, process.said) == (1, [])


def test_what_stays_above_the_limit_is_said_once(process: Process) -> None:
    guard = process.guard()
    process.kept, process.garbage = 150, 10
    guard.check()
    guard.check()
    assert process.said == [(RETIRE, [150, 40])]


def test_collecting_takes_but_a_part_of_the_time(process: Process) -> None:
    guard = process.guard()
    for _ in range(2):
        process.garbage = 90
        guard.check()
    assert process.collections == 1
    process.now += REST
    guard.check()
    assert process.collections == 2


def test_nothing_is_said_before_a_task_has_run(process: Process) -> None:
    turns = Turns()
    runner = Runner(process, 1, LocalEnvironment(), turns, memory=process.guard())  # type: ignore[arg-type]
    process.kept = 150
    runner.flush()
    assert not process.said
    turns.begin()
    runner.flush()
    assert len(process.said) == 1


def test_memory_is_measured() -> None:
    before = own_memory(0)
    ballast = bytearray(b"x") * (64 << 20)
    assert 60 << 20 < own_memory(0) - before < 80 << 20
    del ballast


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="there is no /proc")
def test_without_proc_the_highest_so_far_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = own_memory(1 << 60)
    monkeypatch.setattr(os, "open", fail_to_open)
    inexact = 4 << 20  # the kernel counts pages for each thread or CPU, and adds them up now and then
    assert own_memory(0) >= now - inexact


def fail_to_open(*_: object) -> int:
    raise FileNotFoundError
