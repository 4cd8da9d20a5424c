"""What is foreseen that a worker will import."""

from __future__ import annotations

import abc
import functools
import sys
from types import ModuleType
from typing import Any

import pytest
from support import tasks

from offloop import CallableTask, Task
from offloop.contexts.foresight import goes_by_value, modules_for


def importable(name: str) -> bool:
    return name != "__main__" and not name.startswith("made_up")


def foreseen(task: Any) -> set[str]:
    return set(modules_for(task, importable))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's, importable by name, with a function."""
    made = ModuleType("usual_module")
    exec("def function(): pass\nclass Job:\n    def run(self, environment): pass", vars(made))
    monkeypatch.setitem(sys.modules, "usual_module", made)
    return made


def test_classes_that_travel_by_value_need_what_makes_them() -> None:
    class Local(Task[int]):
        def run(self, environment: object) -> int:
            return 1

    assert foreseen(Local()) == {"cloudpickle"}


def test_functions_that_travel_by_value_need_the_modules_that_they_speak_of() -> None:
    def made(source: str) -> Any:
        namespace: dict[str, Any] = {"__name__": "made_up"}
        exec(source, namespace)
        return namespace["function"]

    assert foreseen(CallableTask(lambda: None)) == set()
    speaking = made("import json, heapq\ndef function(): return json.dumps(1)")
    assert foreseen(CallableTask(speaking)) == {"json"}
    making = made("class Made: pass\ndef function(): return Made()")
    assert foreseen(CallableTask(making)) == {"cloudpickle"}


def test_what_travels_by_value_has_to_be_taken_apart(module: ModuleType) -> None:
    assert goes_by_value(CallableTask(lambda: None), importable)
    assert goes_by_value(CallableTask(map, functools.partial(lambda: None), [1]), importable)
    assert not goes_by_value(CallableTask(module.function, 1), importable)
    assert not goes_by_value(module.Job(), importable)


def test_code_by_name_needs_what_its_module_and_its_packages_refer_to(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    vars(module).update(json=sys.modules["json"], Base=abc.ABC, wraps=functools.wraps, pytest=pytest)
    assert foreseen(CallableTask(module.function)) == {"json", "abc", "functools"}
    assert foreseen(module.Job()) == {"json", "abc", "functools"}
    inner = ModuleType("usual_module.inner")
    exec("import heapq\ndef function(): pass", vars(inner))
    monkeypatch.setitem(sys.modules, "usual_module.inner", inner)
    assert "heapq" in sys.modules
    assert foreseen(CallableTask(inner.function)) == {"json", "abc", "functools", "heapq"}


def test_functions_among_the_arguments_and_in_partials_count(module: ModuleType) -> None:
    vars(module).update(json=sys.modules["json"])
    assert "json" in foreseen(CallableTask(map, functools.partial(module.function, 1), [1]))


def test_functions_of_c_and_plain_arguments_need_nothing() -> None:
    assert foreseen(CallableTask(abs, 1, "text", None)) == set()


def test_no_code_of_the_users_runs(module: ModuleType) -> None:
    class Hostile(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit(name)

    class Touchy:
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit(name)

    vars(module).update(hostile=Hostile("Victim", (), {}), touchy=Touchy())
    assert foreseen(CallableTask(module.function)) == set()


def test_what_may_not_be_loaded_before_a_fork_is_left_to_the_workers(module: ModuleType) -> None:
    vars(module).update(multiprocessing=ModuleType("multiprocessing"), own=tasks, numpy=ModuleType("numpy"))
    assert foreseen(CallableTask(module.function)) == set()
