"""The matrix of what fails: tasks that raise anything, and objects that will not be pickled or shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from matrix import Fault, Gives, Raises, matrix, survive
from support import hostile, spoiling, tasks, unruly

from offloop import SerializationError, TaskFailed, TaskTimeout, WorkerCrashed, WorkerPool

PARENT = os.getpid()


def call(fn: Any, *args: Any) -> Callable[[WorkerPool], Any]:
    """Submit a call."""
    return lambda pool: pool.submit(fn, *args)


def made(kind: Any, *args: Any) -> Callable[[WorkerPool], Any]:
    """Have the worker make an object, as the result."""
    module, name = (type.__getattribute__(kind, each) for each in ("__module__", "__name__"))
    return call(hostile.make, module, name, *args)


def taken(kind: Any, *args: Any) -> Callable[[WorkerPool], Any]:
    """Send an object, made when the fault is caused, as an argument."""
    return lambda pool: pool.submit(hostile.take, kind(*args))


#: What is raised, and what arrives.
RAISED = [
    ("SystemExit", TaskFailed, "SystemExit"),
    ("KeyboardInterrupt", TaskFailed, "KeyboardInterrupt"),
    ("GeneratorExit", TaskFailed, "GeneratorExit"),
    ("StopIteration", TaskFailed, "StopIteration"),
    ("StopAsyncIteration", TaskFailed, "StopAsyncIteration"),
    ("CancelledError", TaskFailed, "CancelledError"),
    ("BaseException", BaseException, ""),
    ("RecursionError", RecursionError, ""),
    ("MemoryError", MemoryError, ""),
]
EXCEPTIONS = [
    *(
        Fault(f"raise {name}", call(tasks.fail_by_name, name), Raises(to, match=text))
        for name, to, text in RAISED
    ),
    *(
        Fault(f"raise {name}, async", call(tasks.afail_by_name, name), Raises(to, match=text))
        for name, to, text in RAISED
        if not name.startswith("Stop")  # out of a coroutine, Python makes a RuntimeError of it
    ),
    Fault(
        "raise what ends the program, in a group", call(unruly.raise_base_group), Raises(BaseExceptionGroup)
    ),
    Fault("exhaust the recursion limit", call(spoiling.exhaust_recursion), Raises(RecursionError)),
    Fault(
        "allocate beyond RLIMIT_AS",
        call(spoiling.allocate_beyond, 4 << 30),
        Raises(MemoryError),
        "own process",
    ),
    Fault(
        "raise with a two-argument __init__",
        call(tasks.fail_in_two_arguments),
        Raises(tasks.TwoArgumentError),
    ),
    Fault("raise with an odd __new__", call(unruly.raise_odd_new), Raises(unruly.OddNew)),
    Fault("raise what refuses attributes", call(unruly.raise_refusing), Raises(unruly.RefusesAttributes)),
    Fault("raise a class without a name", call(unruly.make_nameless_error), Raises(TaskFailed), "pickling"),
    Fault("raise a wide group", call(unruly.raise_group, 2000, 0), Raises(ExceptionGroup, match="2000")),
    Fault("raise a deep group", call(unruly.raise_group, 1, 1000), Raises(ExceptionGroup, match="level 999")),
    *(
        Fault(f"raise with {how}", call(unruly.raise_with, how), Raises(ValueError))
        for how in (
            "a cycle of causes",
            "itself as its context",
            "notes that are none",
            "notes of another kind",
            "a huge text",
            "huge notes",
            "an argument that can't be shown",
            "ten thousand causes",
        )
    ),
    *(
        Fault(f"raise with {how}", call(unruly.raise_with, how), Raises(TaskFailed), "pickling")
        for how in ("an argument that can't be loaded", "an unpicklable attribute")
    ),
    *(
        Fault(
            f"the text of an exception {how}", call(unruly.raise_unspeakable, how), Raises(unruly.ActsInText)
        )
        for how in ("raises", "exits")
    ),
]


@matrix(EXCEPTIONS)
def test_whatever_a_task_raises_ends_its_execution_alone(same_loop: Any, context: str, fault: Fault) -> None:
    same_loop(survive(context, fault))


ALONE = Raises(SerializationError)
DEAD = Raises(WorkerCrashed)
#: The five places where an object's code may be called on the way of a task, and what happens there.
PICKLING = [
    *(
        Fault(f"pickling a task {how}", taken(hostile.ActsInPickle, how), ALONE, "pickling")
        for how in ("raises", "exits")
    ),
    *(
        Fault(f"loading a task {how}", taken(hostile.ActsInLoad, how), ALONE, "pickling")
        for how in ("raises", "exits", "interrupts", "recurses")
    ),
    *(
        Fault(f"loading a task {how}", taken(hostile.ActsInLoad, how), DEAD, "any process", "lost")
        for how in ("dies", "segfaults")
    ),
    Fault("running raises", call(hostile.act, "raises"), Raises(ValueError)),
    Fault("running exits", call(hostile.act, "exits"), Raises(TaskFailed)),
    *(
        Fault(f"running {how}", call(hostile.act, how), DEAD, "any process", "lost")
        for how in ("dies", "segfaults")
    ),
    *(
        Fault(f"pickling a result {how}", made(hostile.ActsInPickle, how), ALONE, "pickling")
        for how in ("raises", "exits")
    ),
    *(
        Fault(f"pickling a result {how}", made(hostile.ActsInPickle, how), DEAD, "any process", "lost")
        for how in ("dies", "segfaults")
    ),
    *(
        Fault(f"loading a result {how}", made(hostile.ActsInLoad, how), ALONE, "pickling")
        for how in ("raises", "exits", "recurses")
    ),
    *(
        Fault(f"setting a result's state {how}", made(hostile.ActsInSetState, how, PARENT), ALONE, "pickling")
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"pickling an exception {how}",
            call(unruly.raise_acting, "in pickle", how),
            Raises(TaskFailed),
            "pickling",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"pickling an exception {how}",
            call(unruly.raise_acting, "in pickle", how),
            DEAD,
            "own process",
            "lost",
        )
        for how in ("dies", "segfaults")
    ),
    *(
        Fault(
            f"loading an exception {how}",
            call(unruly.raise_acting, "in load", how),
            Raises(TaskFailed),
            "pickling",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"loading an exception {how}",
            call(unruly.raise_acting, "in load", how),
            DEAD,
            "own process",
            "lost",
        )
        for how in ("dies", "segfaults")
    ),
    Fault("a lock as an argument", taken(hostile.Locked), ALONE, "pickling"),
    Fault("a lock as a result", call(tasks.new_lock), ALONE, "pickling"),
    Fault(
        "a task of nested lists", lambda pool: pool.submit(len, tasks.nested_list(100_000)), ALONE, "pickling"
    ),
    Fault("a result of nested lists", call(tasks.nested_list, 100_000), ALONE, "pickling"),
]


@matrix(PICKLING)
def test_code_that_runs_on_the_way_costs_its_own_execution(
    same_loop: Any, context: str, fault: Fault
) -> None:
    same_loop(survive(context, fault))


def unshown(in_repr: str, how: str) -> Callable[[WorkerPool], Any]:
    return lambda pool: pool.enqueue(hostile.HasHostileRepr(in_repr, how))


def with_unshown(in_repr: str, fn: Any, timeout: float | None = None) -> Callable[[WorkerPool], Any]:
    return lambda pool: pool.options(timeout=timeout).submit(fn, hostile.ActsInRepr(in_repr))


OBJECTS = [
    *(
        Fault(f"the task's repr {how}, and it raises", unshown(how, "raises"), Raises(ValueError))
        for how in ("raises", "exits")
    ),
    *(
        Fault(f"the task's repr {how}, and it dies", unshown(how, "dies"), DEAD, "own process", "lost")
        for how in ("raises", "exits", "interrupts")
    ),
    *(
        Fault(
            f"an argument's repr {how}, and it dies",
            with_unshown(how, hostile.die),
            DEAD,
            "own process",
            "lost",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"an argument's repr {how}, and it takes too long",
            with_unshown(how, hostile.wait, 0.05),
            Raises(TaskTimeout),
            "own process",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"an argument's repr {how}, and it can't be pickled",
            lambda pool, how=how: pool.submit(hostile.take, hostile.ActsInRepr(how), hostile.Locked()),
            ALONE,
            "pickling",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"an unloadable argument has a text that {how}",
            taken(unruly.LoadsWithBadText, how),
            ALONE,
            "pickling",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"an unloadable result has a text that {how}",
            made(unruly.LoadsWithBadText, how),
            ALONE,
            "pickling",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"an unpicklable argument has a text that {how}",
            taken(unruly.PicklesWithBadText, how),
            ALONE,
            "pickling",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"an unpicklable result has a text that {how}",
            made(unruly.PicklesWithBadText, how),
            ALONE,
            "pickling",
        )
        for how in ("raises", "exits")
    ),
    Fault("an argument that shows itself at length", taken(hostile.HugeRepr), Gives(1)),
    Fault("a result that refuses comparison, hash and truth", made(hostile.RefusesEverything), Gives()),
    Fault("an argument that refuses comparison, hash and truth", taken(hostile.RefusesEverything), Gives(1)),
    Fault("a result without a class", made(hostile.ClaimsToBeAnother), Raises(RuntimeError), "pickling"),
    Fault("an argument without a class", taken(hostile.ClaimsToBeAnother), ALONE, "pickling"),
    Fault("a result whose class has no name", made(hostile.Nameless), Raises(RuntimeError), "pickling"),
    Fault("a result whose class has no name", made(hostile.Nameless), Raises(RuntimeError), "sharing"),
    Fault("an argument whose class has no name", taken(hostile.Nameless), ALONE, "pickling"),
    Fault("a result that comes back from the dead", made(hostile.LivesOn), Gives()),
    *(
        Fault(
            f"an awaitable that {how}",
            call(hostile.await_odd, how),
            Raises(TypeError, RuntimeError, ValueError, TaskFailed),
        )
        for how in ("gives no iterator", "yields what is no future", "raises", "exits")
    ),
    *(
        Fault(f"a generator that {how}", call(hostile.yield_then_act, how), Raises(ValueError, TaskFailed))
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"an async generator that {how}",
            call(hostile.ayield_then_act, how),
            Raises(ValueError, TaskFailed),
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(f"a generator that {how}", call(hostile.yield_then_act, how), DEAD, "own process", "lost")
        for how in ("dies", "segfaults")
    ),
]


@matrix(OBJECTS)
def test_hostile_objects_cost_at_most_their_own_execution(same_loop: Any, context: str, fault: Fault) -> None:
    same_loop(survive(context, fault))


DELETED = [
    *(
        Fault(
            f"deleting an argument {how}",
            taken(hostile.ActsWhenDeleted, how, hostile.ELSEWHERE),
            Gives(1),
            "pickling",
        )
        for how in ("raises", "exits")
    ),
    *(
        Fault(
            f"deleting an argument {how}",
            taken(hostile.ActsWhenDeleted, how, hostile.ELSEWHERE),
            Gives(1),
            "any process",
            "lost",
        )
        for how in ("dies", "segfaults")
    ),
    *(
        Fault(
            f"deleting a result {how} in the worker",
            made(hostile.ActsWhenDeleted, how, hostile.ELSEWHERE),
            Gives(),
            "own process",
            "lost",
        )
        for how in ("dies", "segfaults")
    ),
    *(
        Fault(f"deleting a result {how} in the parent", made(hostile.ActsWhenDeleted, how, PARENT), Gives())
        for how in ("raises", "exits")
    ),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@matrix(DELETED)
def test_what_a_finaliser_does_costs_no_result(same_loop: Any, context: str, fault: Fault) -> None:
    same_loop(survive(context, fault))
