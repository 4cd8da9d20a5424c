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
from offloop.contexts.foresight import define_ahead, modules_for
from offloop.wire.definitions import Definitions


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


def test_what_travels_is_taken_apart_before_it_is_sent(module: ModuleType) -> None:
    definitions = Definitions(importable)
    by_value, captured = (lambda: None), (lambda: 1)
    define_ahead(CallableTask(by_value, functools.partial(captured), 1), definitions)
    define_ahead(CallableTask(module.function), definitions)
    define_ahead(module.Job(), definitions)
    assert all(definitions.known(code) for code in (by_value, captured, module.function, module.Job))


def test_what_cannot_be_taken_apart_is_said_when_it_is_sent() -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            raise SystemExit("no")

    def unlucky(hostile: object = Hostile()) -> None: ...

    definitions = Definitions(importable)
    define_ahead(CallableTask(unlucky), definitions)
    assert definitions.known(unlucky) is None


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


def test_whose_name_can_not_be_had_is_not_foreseen_and_the_rest_is(module: ModuleType) -> None:
    class Touchy(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit(name)

    namespace: dict[str, Any] = {"__name__": "made_up", "Made": Touchy("Made", (), {})}
    exec("def function(): return Made", namespace)
    assert foreseen(CallableTask(namespace["function"])) == {"cloudpickle"}
    nameless = ModuleType("nameless")
    del nameless.__name__
    namespace["Made"] = nameless
    vars(module).update(json=sys.modules["json"])
    assert foreseen(CallableTask(namespace["function"], module.function)) == {"json"}


def test_what_may_not_be_loaded_before_a_fork_is_left_to_the_workers(module: ModuleType) -> None:
    vars(module).update(multiprocessing=ModuleType("multiprocessing"), own=tasks, numpy=ModuleType("numpy"))
    assert foreseen(CallableTask(module.function)) == set()
