"""What is put off at a jump comes at the next instruction, in its thread, and once."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

if sys.version_info < (3, 12):
    pytest.skip("nothing is put off", allow_module_level=True)

from offloop.child.jumps import Jumps, is_at_jump


class Looping:
    """A thread in a loop that ends when it is told to, or by a `KeyError`."""

    def __init__(self) -> None:
        self.caught: list[KeyError] = []
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def id(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    def frame(self) -> FrameType:
        """Its frame, as it stands at the jump: other threads than this one do not run meanwhile."""
        while not (frame := sys._current_frames()[self.id]) or frame.f_code is not self._run.__code__:
            pass
        return frame

    def at_jump(self, jumps: Jumps, action: Callable[[], object]) -> None:
        """Put something off until it takes."""
        while not jumps.put_off(self.id, self.frame(), action):
            pass

    def end(self) -> None:
        self._is_over = True
        self.join()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_over:
                pass
        except KeyError as error:
            self.caught.append(error)


@pytest.fixture
def looping() -> Iterator[Looping]:
    thread = Looping()
    yield thread
    thread.end()


def tools() -> list[str | None]:
    return [sys.monitoring.get_tool(id) for id in (3, 4)]


def test_it_comes_once_in_its_thread_and_leaves_no_tool(looping: Looping) -> None:
    jumps, came, threads = Jumps(), threading.Event(), []

    def come() -> None:
        threads.append(threading.get_ident())
        came.set()

    looping.at_jump(jumps, come)
    assert came.wait(20)
    looping.end()
    assert threads == [looping.id]
    assert tools() == [None, None]
    assert not jumps.withdraw(looping.id)


def test_what_it_raises_is_raised_there() -> None:
    jumps, looping = Jumps(), Looping()

    def come() -> None:
        raise KeyError

    looping.at_jump(jumps, come)
    looping.join()
    assert len(looping.caught) == 1
    assert tools() == [None, None]


def test_it_does_not_come_in_another_thread_that_runs_the_same_code(looping: Looping) -> None:
    jumps, came, threads, other = Jumps(), threading.Event(), [], Looping()

    def come() -> None:
        threads.append(threading.get_ident())
        came.set()

    other.at_jump(jumps, bool)
    looping.at_jump(jumps, come)
    assert came.wait(20)
    other.end()
    looping.end()
    assert threads == [looping.id]


def test_it_is_withdrawn() -> None:
    jumps, frame = Jumps(), at_a_jump()
    assert jumps.put_off(1, frame, pytest.fail)
    assert not jumps.put_off(1, frame, pytest.fail), "one waits"
    assert jumps.put_off(2, frame, pytest.fail)
    assert jumps.withdraw(1)
    assert tools() == [None, "offloop"]
    assert jumps.withdraw(2)
    assert not jumps.withdraw(2)
    assert tools() == [None, None]


def test_a_frame_that_is_at_no_jump_is_left_alone() -> None:
    frame = sys._getframe()
    assert not is_at_jump(frame)
    assert not Jumps().put_off(1, frame, pytest.fail)


def test_other_tools_keep_their_ids() -> None:
    for id in (3, 4):
        sys.monitoring.use_tool_id(id, "another")
    try:
        assert not Jumps().put_off(1, at_a_jump(), pytest.fail)
        assert tools() == ["another", "another"]
        sys.monitoring.free_tool_id(3)
        jumps = Jumps()
        assert jumps.put_off(1, at_a_jump(), pytest.fail)
        assert tools() == ["offloop", "another"]
        assert jumps.withdraw(1)
    finally:
        for id in (3, 4):
            sys.monitoring.free_tool_id(id)


def at_a_jump() -> Any:
    """What is looked at of a frame, as it stands at a jump."""
    code = Looping._run.__code__
    offset = next(it.offset for it in dis.get_instructions(code) if it.opname.startswith("JUMP_BACKWARD"))
    return SimpleNamespace(f_code=code, f_lasti=offset)
