"""Functions made anew for each task, of code that others were made of before: defined once, as a model."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from codec_link import Link, Point, function

from offloop.task import CallableTask
from offloop.wire import models
from offloop.wire.models import MOST

counter = 0
limit = 10


def call(link: Link, fn: Callable[..., Any], *args: Any) -> Any:
    """What a worker's call of a task's function comes to, as `Sender` sends it."""
    number = link.encoder.reference(fn)
    if number:
        return link.decoder.resolve(number)(*args)
    task: Any = link.send(CallableTask(fn, *args))
    return task.run(None)


def anew() -> Any:
    return lambda x=0: x + limit


def with_cells(a: Any, b: Any) -> Any:
    return lambda: (a, b)


def with_defaults(a: Any, b: Any) -> Any:
    return lambda x=a, *, y=b: (x, y)


@pytest.mark.parametrize(
    "make", [lambda _: anew(), lambda n: with_cells(n, "x"), lambda n: with_defaults(n, "x")]
)
def test_from_the_third_of_one_code_on_nothing_is_defined(make: Callable[[int], Any]) -> None:
    link = Link()
    for n in range(2):
        call(link, make(n))
    defined = len(link.defined)
    for n in range(100):
        call(link, make(n))
    assert len(link.defined) == defined


def test_one_that_captured_nothing_goes_by_its_models_number() -> None:
    link = Link()
    numbers = {link.encoder.reference((lambda: lambda: limit)()) for _ in range(3)}
    assert 0 not in numbers


@pytest.mark.parametrize("make", [with_cells, with_defaults])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, "two"),
        (None, (1, (2.0, b"three"))),
        (Path("/four"), frozenset({5})),
        (len, Path),
        ([6], {"seven": Point}),
    ],
    ids=["atoms", "tuples", "constants", "named code", "what can change"],
)
def test_each_has_what_it_captured(make: Callable[[Any, Any], Any], a: Any, b: Any) -> None:
    link = Link()
    for n in range(5):
        assert call(link, make(n, str(n))) == (n, str(n))
        got_a, got_b = call(link, make(a, b))
        assert got_a == a
        assert got_b == b or got_b["seven"].__name__ == "Point"


def test_one_that_is_used_again_gets_a_definition_of_its_own() -> None:
    link = Link()
    call(link, with_cells(1, 2))
    kept = with_cells(3, 4)
    assert link.encoder.reference(kept) == 0
    number = link.encoder.reference(kept)
    assert number > 0
    assert link.decoder.resolve(number)() == (3, 4)
    assert link.encoder.reference(kept) == number
    assert call(link, with_cells(5, 6)) == (5, 6)


def test_it_looks_like_the_original_in_the_worker() -> None:
    def made(n: int) -> Any:
        def job(x=n):  # type: ignore[no-untyped-def]  # an annotation would be its own
            """Do it."""
            return x

        return job

    link = Link()
    call(link, made(0))
    original = made(1)
    assert link.encoder.reference(original) == 0
    copy = link.send(CallableTask(original)).fn
    assert copy is not original
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__"):
        assert getattr(copy, name) == getattr(original, name)
    assert copy.__code__.co_filename == __file__


def test_a_global_that_has_changed_is_noticed() -> None:
    source = """
        def f(n):
            return lambda: (n, K)
    """
    link = Link()
    make = function(source, K=1)
    assert [call(link, make(n)) for n in range(3)] == [(0, 1), (1, 1), (2, 1)]
    make.__globals__["K"] = 2
    assert [call(link, make(n)) for n in range(3)] == [(0, 2), (1, 2), (2, 2)]


def test_a_global_that_can_change_unseen_goes_along_each_time() -> None:
    source = """
        def f(n):
            return lambda: (n, list(K))
    """
    link = Link()
    items: list[int] = []
    make = function(source, K=items)
    for n in range(4):
        items.append(n)
        assert call(link, make(n)) == (n, items)


def test_what_a_task_does_to_variables_outside_is_forgotten_with_it() -> None:
    source = """
        def f(n):
            def count():
                global K
                nonlocal n
                K += 1
                n += 1
                return n, K
            return count
    """
    link = Link()
    make = function(source, K=1)
    assert [call(link, make(10)) for _ in range(4)] == [(11, 2)] * 4


def test_code_that_goes_by_value_shares_its_globals_with_what_it_captured() -> None:
    source = """
        def bump():
            global K
            K += 1
        def f(g):
            return lambda: (g(), K)
    """
    link = Link()
    make = function(source, K=1)
    for hidden in (lambda g: g, lambda g: (g,)):
        for _ in range(3):
            g = hidden(make.__globals__["bump"])
            made = make(g if callable(g) else g[0])
            assert call(link, made) == (None, 2)


def test_the_same_code_with_other_globals_is_other_code() -> None:
    link = Link()
    make = [function("def f(n):\n    return lambda: (n, K)", K=k) for k in range(2)]
    code = make[0].__code__
    make[1].__code__ = code
    for n in range(4):
        for k in range(2):
            assert call(link, make[k](n)) == (n, k)


class TestWhatHasSomethingOfItsOwnTravelsWhole:
    def test_attributes(self) -> None:
        link = Link()
        for n in range(3):
            fn = anew()
            fn.tag = n
            assert link.encoder.reference(fn) > 0
            (number,) = link.defined[-1:]
            assert link.decoder.resolve(number).tag == n

    def test_annotations(self) -> None:
        def made(n: int) -> Any:
            def job(x: int = n) -> int:
                return x

            return job

        link = Link()
        for n in range(3):
            number = link.encoder.reference(made(n))
            assert link.decoder.resolve(number)() == n
            assert set(link.decoder.resolve(number).__annotations__) == {"x", "return"}

    def test_a_variable_without_a_value(self) -> None:
        def made(is_set: bool) -> Any:
            if is_set:
                value = 1
            return lambda: value

        link = Link()
        assert call(link, made(True)) == 1
        for _ in range(2):
            with pytest.raises(NameError):
                call(link, made(False))
        assert call(link, made(True)) == 1


class Broken:
    """It can't be pickled."""

    def __reduce__(self) -> Any:
        raise ValueError("no")


def test_a_task_that_could_not_be_pickled_leaves_nothing_behind() -> None:
    link = Link()

    def made(n: int) -> Any:
        value = n

        def change(to: int) -> None:
            nonlocal value
            value = to

        def get():  # type: ignore[no-untyped-def]  # an annotation would be its own
            return value

        return get, change

    for n in range(2):
        call(link, made(n)[0])
    get, change = made(2)
    assert link.encoder.reference(get) == 0
    with pytest.raises(ValueError, match="no"):
        link.encoder.encode(CallableTask(get, Broken()))
    link.encoder.give_up()
    change(99)
    assert link.send(get)() == 99


def test_what_has_a_name_goes_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("importable_module_of_models")
    code = """
        def make(n):
            def f(x=n):
                return x, STATE
            f.__qualname__ = f.__name__ = f"f{n}"
            return f
        f = make
    """
    module.__dict__.update(function(code, STATE=None).__globals__, __name__=module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    link = Link()
    for n in range(4):
        fn = module.make(n)
        fn.__module__ = module.__name__
        setattr(module, f"f{n}", fn)
        number = link.encoder.reference(fn)
        assert link.decoder.resolve(number) is fn, "imported"


def test_one_that_is_called_something_else_travels_whole() -> None:
    link = Link()
    for name in "abcd":
        fn = with_cells(1, name)
        fn.__name__ = name
        copy = link.send(CallableTask(fn)).fn if not link.encoder.reference(fn) else None
        assert copy is None or copy.__name__ == name


def test_globals_of_code_that_ran_once_are_not_kept() -> None:
    class Anchor:
        pass

    link, anchors = Link(), []
    for _ in range(20):
        anchor = Anchor()
        make = function("def f(n):\n    return lambda: (n, list(K))", K=[], anchor=anchor)
        for n in range(3):
            assert call(link, make(n)) == (n, [])
        anchors.append(weakref.ref(anchor))
        del make, anchor
    gc.collect()
    assert sum(anchor() is not None for anchor in anchors) <= 1


def test_nothing_that_was_sent_is_kept_alive() -> None:
    link = Link()
    for n in range(3):
        fn = with_cells(n, "x")
        call(link, fn)
    seen = weakref.ref(fn)
    del fn
    gc.collect()
    assert seen() is None


def test_memory_is_bounded() -> None:
    link = Link()
    for n in range(3):
        for fn in [with_cells(n, n) for _ in range(MOST)]:
            link.encoder.reference(fn)
        assert len(link.definitions.models._used) <= MOST
    for n in range(MOST + 10):
        make = function(f"def f():\n    return lambda: {n}")
        assert [call(link, make()) for _ in range(2)] == [n, n]
    assert len(link.definitions.models._made) <= MOST


def test_a_model_that_was_evicted_is_defined_anew() -> None:
    link = Link(capacity=3)
    for n in range(200):
        assert call(link, with_cells(n, "x")) == (n, "x")
        make = function(f"def f():\n    return lambda: {n}")
        assert call(link, make()) == n


@pytest.mark.parametrize("most", [1, 2])
def test_forgetting_costs_a_definition_and_nothing_else(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MOST", most)
    link = Link()
    for n in range(10):
        assert call(link, with_cells(n, 1)) == (n, 1)
        assert call(link, with_defaults(n, 2)) == (n, 2)
        assert call(link, anew(), n) == n + limit
