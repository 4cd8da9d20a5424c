"""The errors: one tree, and facts that survive pickling and copying."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import offloop
from offloop import OffloopError, TaskFailed, TaskTimeout, WorkerCrashed, WorkerError, WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = ["OffloopError", "StatusError", "QueueFull", "SerializationError", "ChannelClosed", "TaskTimeout"]
PLAIN += ["WorkerError", "WorkerKilled", "RemoteTraceback", "TaskCancelled"]

CRASH = WorkerCrashed(
    "The worker crashed by SIGSEGV",
    pid=123,
    exit_code=-11,
    signal="SIGSEGV",
    task="resize('a.png')",
    stack="File a.py, line 1",
    peak_rss=4096,
    out_of_memory=True,
    output="last words",
)
ERRORS = [getattr(offloop, name)(f"a {name}") for name in PLAIN]
ERRORS += [CRASH, TaskFailed("mylib.Broken", "badly", "a traceback"), TaskFailed("StopIteration", "")]
ERRORS += [WorkerStartError("no start", "a traceback"), WorkerStartError(), WorkerCrashed()]


class OwnError(WorkerCrashed):
    """A user's own class of error, with an ``__init__`` that takes none of the arguments."""

    def __init__(self) -> None:
        super().__init__("own", pid=7)


def by_pickle(protocol: int) -> Callable[[Any], Any]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


WAYS = [
    pytest.param(by_pickle(protocol), id=f"pickle{protocol}")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
]
WAYS += [pytest.param(copy.copy, id="copy"), pytest.param(copy.deepcopy, id="deepcopy")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [*ERRORS, OwnError()], ids=lambda error: type(error).__name__)
def test_an_error_survives_with_its_text_and_attributes(
    error: BaseException, way: Callable[[Any], Any]
) -> None:
    again = way(error)
    assert again is not error
    assert type(again) is type(error)
    assert (again.args, str(again), vars(again)) == (error.args, str(error), vars(error))


def test_notes_survive_too() -> None:
    error = WorkerCrashed("noted", pid=1)
    error.add_note("a note")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["a note"]


def test_every_error_of_the_tree_has_one_root() -> None:
    names = (
        "StatusError QueueFull SerializationError ChannelClosed TaskFailed TaskTimeout WorkerError".split()
    )
    assert all(issubclass(getattr(offloop, name), OffloopError) for name in names)
    assert issubclass(TaskTimeout, TimeoutError)
    for name in ("WorkerCrashed", "WorkerKilled", "WorkerStartError"):
        assert issubclass(getattr(offloop, name), WorkerError)


def test_task_cancelled_slips_through_except_exception() -> None:
    assert not issubclass(offloop.TaskCancelled, Exception)


def test_a_start_error_shows_the_workers_traceback() -> None:
    error = WorkerStartError("The worker could not start", "Traceback: broken")
    assert str(error).startswith("The worker could not start")
    assert "Traceback: broken" in str(error)
