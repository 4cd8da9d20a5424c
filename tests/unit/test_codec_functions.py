"""Functions by value: sent once, until something that they captured changes."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest
from codec_link import ADD, Link, function

from offloop.wire import codec, definitions
from offloop.wire.captures import Captures
from offloop.wire.definitions import LOOK_AGAIN, Definitions


@pytest.fixture
def link() -> Link:
    return Link()


def test_a_function_by_value_is_defined_once_while_nothing_changes(link: Link) -> None:
    f = function(ADD, K=1)
    assert link.function(f)(1) == 2
    assert link.function(f)(1) == 2
    assert len(link.defined) == 1


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return x + K",
        "def f(x): return [x + K for _ in 'x'][0]",
        "def f(x): return (lambda: x + K)()",
        "def f(x):\n class Local:\n  def run(self): return x + K\n return Local().run()",
        "def g(x): return x + K\ndef f(x): return g(x)",
        "def g(x): return x + K\ndef f(x, g=g): return g(x)",
        "def g(x): return x + K\ndef f(x, *, g=g): return g(x)",
        "def g(x): return x + K\ndef f(x): return pair[0](x)\npair = (g,)",
        "def g(x): return x + K\ndef f(x): return f.inner(x)\nf.inner = g",
        "class C:\n def run(self, x): return x + K\ndef f(x): return C().run(x)",
        "class C:\n @staticmethod\n def run(x): return x + K\ndef f(x): return C.run(x)",
        "class B:\n def run(self, x): return x + K\nclass C(B): pass\ndef f(x): return C().run(x)",
        "class C:\n @property\n def k(self): return K\ndef f(x): return x + C().k",
        "from functools import cache\n@cache\ndef g(x): return x + K\ndef f(x): return g(x)",
    ],
)
def test_a_changed_global_makes_a_new_definition(link: Link, source: str) -> None:
    f = function(source, K=1)
    first = link.encoder.reference(f)
    assert link.decoder.resolve(first)(1) == 2
    f.__globals__["K"] = 5
    second = link.encoder.reference(f)
    assert first != second
    assert link.decoder.resolve(second)(1) == 6
    assert link.encoder.reference(f) == second


@pytest.mark.parametrize(
    "link_of_chain",
    ["def f{0}(): return f{1}()", "class f{0}:\n def __call__(self): return f{1}()()"],
    ids=["functions", "classes"],
)
def test_the_end_of_a_chain_longer_than_the_stack_is_looked_at(link_of_chain: str) -> None:
    length = 2 * sys.getrecursionlimit()
    chain = [link_of_chain.format(number, number + 1) for number in range(length)]
    f = function("\n".join([*chain, f"def f{length}(): return K", "def f(): return f0()"]), K=1)
    captures = Captures(f, lambda _: False, lambda _: False)
    assert not captures.mutable
    assert captures.hold()
    f.__globals__["K"] = 2
    assert not captures.hold()


def test_a_global_that_appears_later_is_noticed(link: Link) -> None:
    f = function(ADD)
    with pytest.raises(NameError):
        link.function(f)(1)
    f.__globals__["K"] = 2
    assert link.function(f)(1) == 3
    del f.__globals__["K"]
    with pytest.raises(NameError):
        link.function(f)(1)


def test_a_shadowed_builtin_is_noticed(link: Link) -> None:
    f = function("def f(x): return abs(x)")
    assert link.function(f)(-1) == 1
    f.__globals__["abs"] = str
    assert link.function(f)(-1) == "-1"


def test_a_changed_cell_is_noticed(link: Link) -> None:
    value = 1

    def f() -> int:
        return value

    assert link.function(f)() == 1
    value = 2
    assert link.function(f)() == 2


def test_an_empty_cell_is_carried_and_noticed_when_filled(link: Link) -> None:
    def f() -> int:
        return later

    assert link.encoder.reference(f)
    later = 3
    assert link.function(f)() == 3


def test_changed_defaults_code_and_attributes_are_noticed(link: Link) -> None:
    f = function("def f(x=1, *, y=1): return x, y, getattr(f, 'z', None)")
    assert link.function(f)() == (1, 1, None)
    f.__defaults__ = (2,)
    assert link.function(f)() == (2, 1, None)
    f.__kwdefaults__["y"] = 2
    assert link.function(f)() == (2, 2, None)
    f.z = 2
    assert link.function(f)() == (2, 2, 2)
    f.z = 3
    assert link.function(f)() == (2, 2, 3)
    f.__code__ = (lambda x, *, y: "new").__code__
    assert link.function(f)() == "new"


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, bytearray(b"x"), (1, [2]), np.zeros(2)])
def test_a_function_with_mutable_captures_is_pickled_each_time(link: Link, value: Any) -> None:
    f = function("def f(): return V", V=value)
    assert link.encoder.reference(f) == 0
    assert repr(link.send([f])[0]()) == repr(value)


def test_a_mutated_global_is_seen_by_the_next_message(link: Link) -> None:
    f = function("def f(): return list(V)", V=[1])
    assert link.send((f,))[0]() == [1]
    f.__globals__["V"].append(2)
    assert link.send((f,))[0]() == [1, 2]


def test_what_a_function_captured_that_can_change_is_looked_at_rarely(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[object] = []

    def walk(definitions: Definitions, obj: object) -> Captures:
        walks.append(obj)
        return captures_of(definitions, obj)

    captures_of = Definitions._captures
    monkeypatch.setattr(Definitions, "_captures", walk)
    f, g = (function(ADD, K=[1]) for _ in range(2))
    for _ in range(LOOK_AGAIN):
        assert link.encoder.reference(f) == 0
        assert link.send((f, f))[0]([2]) == [2, 1]
        assert link.encoder.reference(g) == 0
        assert link.send(g)([2]) == [2, 1]
    assert walks == [f, g]
    f.__globals__["K"], g.__globals__["K"] = 1, [3]
    assert [bool(link.encoder.reference(each)) for _ in range(2) for each in (f, g)] == [0, 0, 1, 0]
    assert link.function(f)(2) == 3
    assert link.send(g)([2]) == [2, 3]


def test_a_function_is_not_taken_for_another_one_that_had_its_place(link: Link) -> None:
    for number in range(100):  # one dies as the next is made, in its place as a rule
        f = function(ADD, K=number if number % 2 else [number])
        assert bool(link.encoder.reference(f)) == bool(number % 2)
        link.encoder.give_up()
        del f


def test_a_mutable_capture_is_found_also_behind_a_class_that_hides_it(link: Link) -> None:
    f = function(
        """
        def h(): return V
        class C:
            run = staticmethod(h)
        def f(): return C, h()
        """,
        V=[1],
    )
    assert link.encoder.reference(f) == 0


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n global K\n K += 1\n return K",
        "def f():\n def g():\n  global K\n  K += 1\n g()\n return K",
        "def outer():\n k = 1\n def f():\n  nonlocal k\n  k += 1\n  return k\n return f\nf = outer()",
        "def o(k):\n def f():\n  def g():\n   nonlocal k\n   k += 1\n  g()\n  return k\n return f\nf = o(1)",
    ],
)
def test_a_function_that_assigns_outside_itself_starts_afresh_each_time(link: Link, source: str) -> None:
    f = function(source, K=1)
    assert link.encoder.reference(f) == 0
    assert [link.send((f,))[0]() for _ in range(2)] == [2, 2]


def test_functions_that_share_assigned_globals_do_so_at_the_other_end(link: Link) -> None:
    f = function("def read(): return K\ndef f():\n global K\n K += 1\n return read()", K=1)
    assert link.encoder.reference(f.__globals__["read"])
    assert link.send((f,))[0]() == 2


def test_assigning_to_variables_of_its_own_leaves_a_function_cacheable(link: Link) -> None:
    def f() -> int:
        total = 0

        def add(n: int) -> None:
            nonlocal total
            total += n

        add(2)
        return total

    assert link.function(f)() == 2


def test_recursive_functions_do_not_loop(link: Link) -> None:
    fact = function("def f(n): return n * f(n - 1) if n else 1")
    even = function("def f(n): return n == 0 or g(n - 1)\ndef g(n): return n != 0 and f(n - 1)")

    def down(n: int) -> int:
        return down(n - 1) if n else 0

    assert link.function(fact)(5) == 120
    assert link.function(even)(10) is True
    assert link.function(down)(3) == 0
    assert link.send([down])[0](3) == 0


def test_a_recursive_cached_function_keeps_its_cache_in_the_worker(link: Link) -> None:
    f = function("from functools import cache\n@cache\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)")
    assert link.function(f)(80) == 23416728348467685
    assert link.function(f).cache_info().misses == 81
    assert len(link.defined) == 1


@pytest.mark.skipif(sys.version_info < (3, 14), reason="needs Python 3.14")
def test_annotations_that_only_type_checkers_can_evaluate_hinder_nothing(link: Link) -> None:
    source = "def f(x: Missing, *, y: int = 1) -> Other.inner:\n 'doc'\n return x + y\nf.own = 2"
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, "made", "exec", dont_inherit=True), namespace)  # whose annotations are not strings
    copy = link.function(namespace["f"])
    assert copy(1) == 2
    assert (copy.__doc__, copy.own, copy.__qualname__) == ("doc", 2, "f")
    assert copy.__annotations__ == {"x": "Missing", "y": "int", "return": "Other.inner"}


def test_large_functions_that_are_gone_are_kept_on_neither_side(monkeypatch: pytest.MonkeyPatch) -> None:
    size, most = 1000, 10_000
    monkeypatch.setattr(definitions, "MAX_BYTES", most)
    monkeypatch.setattr(codec, "_MOST_BYTES", 2 * most)
    link = Link()
    made: list[weakref.ref[Any]] = []
    for n in range(200):
        fn = function("def f(x): return x, K[:1]", K=bytes([n]) * size)
        assert link.send(fn)(n) == (n, bytes([n]))
        made.append(weakref.ref(fn))
    del fn
    gc.collect()
    alive = sum(each() is not None for each in made)
    assert alive * size < 5 * most
    assert sum(map(len, link.decoder._payloads.values())) < 5 * most
    assert sum(len(each.payload) for each in link.definitions._retired) == 0
