"""The matrix of what a task does to its process or interpreter: it dies, survives, or is mended."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matrix import Fault, Gives, Raises, matrix, survive
from support import faulty, spoiling, tasks

from offloop import TaskFailed, WorkerCrashed, WorkerPool


def call(fn: Any, *args: Any, **kwargs: Any) -> Callable[[WorkerPool], Any]:
    """Submit a call."""
    return lambda pool: pool.submit(fn, *args, **kwargs)


def process(name: str, fn: Any, *args: Any, worker: str = "kept", ending: Any = None, **kwargs: Any) -> Fault:
    """A fault in a process of the worker's own; by default the task returns, and the worker is kept."""
    return Fault(name, call(fn, *args, **kwargs), ending or Gives(), "own process", worker)


def crash(name: str, fn: Any, *args: Any, match: str = "") -> Fault:
    """A fault that ends the worker, however that was started."""
    return Fault(name, call(fn, *args), Raises(WorkerCrashed, match=match), "any process", "lost")


DYING = [
    *(
        crash(f"killed by {each.name}", tasks.signal_self, int(each), match=each.name)
        for each in (
            signal.SIGKILL,
            signal.SIGTERM,
            signal.SIGABRT,
            signal.SIGBUS,
            signal.SIGFPE,
            signal.SIGHUP,
        )
    ),
    crash("segmentation fault", tasks.segfault, match="SIGSEGV"),
    crash("exit with 0 and no goodbye", tasks.exit_process, 0, match="exited with code 0"),
    crash("exit with 1 and no goodbye", tasks.exit_process, 1),
    crash("ended by an alarm of its own", spoiling.die_by_alarm, match="SIGALRM"),
    crash("a frame that is too large", spoiling.write_frame_of, 1 << 62),
]


@matrix(DYING)
def test_a_worker_that_dies_costs_the_running_task_alone(same_loop: Any, context: str, fault: Fault) -> None:
    same_loop(survive(context, fault))


SURVIVED = [
    *(
        process(f"stdout and stderr are {how}", spoiling.replace_streams, how)
        for how in ("broken", "none", "closed")
    ),
    process("descriptors 0 to 2 are closed", spoiling.close_standard_descriptors),
    process("descriptors 1 and 2 are flooded", spoiling.flood_standard_descriptors, 1 << 20),
    *(
        process(f"the signal of cancelling is {how}", spoiling.handle_interrupt, how, worker="kept")
        for how in ("ignored", "default", "swallowed")
    ),
    process("the signal of cancelling is blocked", spoiling.block_interrupt),
    process("the task sends itself the signal of cancelling", spoiling.interrupt_self, 50, ending=Gives(50)),
    process(
        "the task sends itself SIGINT and SIGPIPE", spoiling.signal_all_gently, ending=Gives("still here")
    ),
    process("SIGCHLD is ignored", spoiling.ignore_children),
    process("pickle is patched", spoiling.patch_pickle),
    process("sys.modules is cleared", spoiling.clear_modules),
    process("the recursion limit is used up", spoiling.lower_recursion_limit),
    process("the task leaves its session", spoiling.change_session),
    process("a profile function raises", spoiling.trace_everything, ending=Raises(RuntimeError)),
    process("no garbage is collected, no thread switched", spoiling.collect_nothing),
    process("a daemon thread never ends", spoiling.start_thread_that_never_ends, daemon=True),
    *(process(f"an exit function {how}", spoiling.fail_at_exit, how) for how in ("raises", "exits", "dies")),
    process("the task forks twenty children and reaps none", spoiling.fork_bomb, 20),
    process("no file may be written", spoiling.lower_limit, "RLIMIT_FSIZE", 0),
    process(
        "built-in functions are deleted", spoiling.lose_builtins, worker="lost", ending=Raises(WorkerCrashed)
    ),
]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@matrix(SURVIVED)
def test_what_a_task_does_to_its_process_is_survived(same_loop: Any, context: str, fault: Fault) -> None:
    same_loop(survive(context, fault))


EVERYWHERE = [
    Fault("a thread of the task's raises", call(spoiling.start_thread_that_raises), Gives(), "own process"),
    Fault("an async task stops its loop", call(spoiling.stop_loop), Gives("stopped")),
    Fault("an async task closes its loop", call(spoiling.close_loop), Raises(RuntimeError)),
    Fault("an async task cancels all others", call(spoiling.cancel_everything), Raises(TaskFailed)),
    *(
        Fault(f"{name} in a callback of the loop", call(spoiling.raise_in_callback, name), Gives("over"))
        for name in ("SystemExit", "KeyboardInterrupt")
    ),
    *(
        Fault(f"{name} in a subtask", call(faulty.fail_in_subtask, name), Raises(TaskFailed, match=name))
        for name in ("SystemExit", "KeyboardInterrupt")
    ),
    Fault("a task in the background fails", call(spoiling.leave_task_that_fails), Gives("left")),
]


@matrix(EVERYWHERE)
def test_what_a_task_does_to_its_interpreter_is_survived(same_loop: Any, context: str, fault: Fault) -> None:
    same_loop(survive(context, fault))


@pytest.mark.filterwarnings("ignore:warning .*:UserWarning")
@matrix([Fault("three thousand warnings", call(spoiling.warn_often, 3000), Gives(3000))])
def test_thousands_of_warnings_hold_nobody_up(same_loop: Any, context: str, fault: Fault) -> None:
    same_loop(survive(context, fault))


def test_a_changed_process_is_the_next_tasks_as_well(same_loop: Any, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    fault = process("all of it", spoiling.change_process, str(tmp_path / "gone"))
    same_loop(survive("process", fault))


def test_descriptors_that_took_the_place_of_0_to_2_are_not_taken_for_others(
    same_loop: Any, tmp_path: Path
) -> None:
    fault = process("reused", spoiling.reuse_standard_descriptors, str(tmp_path / "file"))
    same_loop(survive("process", fault))


SPOILT = [
    process("import hooks raise", spoiling.hook_everything, worker="spoilt"),
    process("an audit hook forbids to open and import", spoiling.audit_everything, worker="spoilt"),
    process("no descriptor may be opened", spoiling.lower_limit, "RLIMIT_NOFILE", 3, worker="spoilt"),
    process("os, time and socket are patched", spoiling.patch_os, worker="spoilt"),
    process("no event loop can be made", spoiling.break_loop_policy, worker="spoilt"),
    process("picklers are patched", spoiling.patch_pickle, "Pickler", "Unpickler", worker="spoilt"),
    process("sys.path is empty", spoiling.clear_path, worker="spoilt"),
]


@matrix(SPOILT)
def test_a_worker_that_is_spoilt_beyond_repair_is_mended_by_recycling(
    same_loop: Any, context: str, fault: Fault
) -> None:
    same_loop(survive(context, fault))
