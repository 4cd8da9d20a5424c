"""Which context variable is which: names, tokens, and ways back."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from codec_link import Link, function, importable as everything_else

from offloop.wire import variables
from offloop.wire.variables import default_of, find_variable, homes_of, in_module, key_of, known_by, token_of


def always(_: str) -> bool:
    return True


@pytest.fixture
def make_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., types.ModuleType]:
    """Makes modules that are in ``sys.modules``; what is known of variables is forgotten."""

    def make(name: str, **attributes: Any) -> types.ModuleType:
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    monkeypatch.setattr(variables, "_homes", {})
    monkeypatch.setattr(variables, "_missing", set())
    return make


def test_a_modules_variable_is_known_by_every_module_that_has_it(make_module: Callable[..., Any]) -> None:
    variable: ContextVar[int] = ContextVar("variable")
    make_module("one", variable=variable)
    make_module("two", other=1, mine=variable)
    key = key_of(variable, always)
    assert key == (("one", "variable"), ("two", "mine"))
    assert key_of(variable, lambda name: name == "two") == (("two", "mine"),)
    assert known_by(key) is variable
    del sys.modules["one"]
    assert known_by(key) is variable
    assert key_of(variable, always) == (("two", "mine"),)
    sys.modules["two"].mine = ContextVar("another")  # type: ignore[attr-defined]
    assert key_of(variable, always) is None


def test_a_variable_of_no_module_has_a_key_once_it_was_pickled(make_module: Callable[..., Any]) -> None:
    variable: ContextVar[int] = ContextVar("variable")
    make_module("made_by_hand", variable=variable)
    assert key_of(variable, everything_else) is None
    link = Link()
    assert link.send([variable]) == [variable]
    assert key_of(variable, everything_else) == token_of(variable)
    assert known_by(token_of(variable)) is variable


def test_what_is_in_sys_modules_is_not_loaded_by_being_looked_at(
    monkeypatch: pytest.MonkeyPatch, make_module: Callable[..., Any]
) -> None:
    spec = importlib.util.find_spec("this")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)
    monkeypatch.setitem(sys.modules, "this", lazy)
    monkeypatch.setitem(sys.modules, "no_module", object())  # type: ignore[misc]
    variable: ContextVar[int] = ContextVar("variable")
    make_module("here", variable=variable)
    assert homes_of(variable, always) == (("here", "variable"),)
    assert in_module("this", "s") is None
    assert in_module("no_module", "variable") is None
    assert in_module("not_there", "variable") is None
    assert "LazyModule" in type(lazy).__name__, "it would have printed the Zen of Python"


def test_a_program_that_makes_variables_all_the_time_does_not_have_each_looked_for(
    monkeypatch: pytest.MonkeyPatch, make_module: Callable[..., Any]
) -> None:
    looks: list[int] = []
    look_around = variables._look_around
    monkeypatch.setattr(variables, "_look_around", lambda: (looks.append(1), look_around()))
    made = [ContextVar[int](f"number {number}") for number in range(100)]
    for _ in range(2):
        assert not any(homes_of(variable, always) for variable in made)
    assert len(looks) == len(variables._missing) == variables.MOST_MISSING
    variable: ContextVar[int] = ContextVar("variable")
    make_module("new", variable=variable)
    assert homes_of(variable, always) == (("new", "variable"),), "modules came, so it is looked for"


def test_each_process_makes_one_variable_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    mine: ContextVar[Any] = ContextVar("mine", default=("default",))
    link = Link()
    data = link.encoder.encode((mine, mine))
    token = token_of(mine)
    monkeypatch.setattr(variables, "tokens", {})  # as in another process
    monkeypatch.setattr(variables, "_by_token", {})
    one, other = link.decoder.decode(data)
    assert one is other
    assert one is not mine
    assert (one.name, one.get()) == ("mine", ("default",))
    assert link.decoder.decode(data)[0] is one
    back = link.reply_encoder.encode(one)
    monkeypatch.undo()
    assert link.reply_decoder.decode(back) is mine
    assert find_variable(token, "mine") is mine


def test_a_variable_with_a_name_goes_by_it() -> None:
    import support.variables

    link = Link()
    data = link.encoder.encode([support.variables.request_id])
    assert b"support.variables" in data
    assert link.decoder.decode(data) == [support.variables.request_id]
    assert link.reply(support.variables.request_id) is support.variables.request_id


def test_a_function_by_value_that_uses_one_is_sent_once() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="default")
    link = Link()
    fn = function("def f():\n    return v.get()", v=variable)
    number = link.encoder.reference(fn)
    assert number > 0, "it is a definition: a variable is no captured value that may change"
    assert link.encoder.reference(fn) == number
    assert link.decoder.resolve(number)() == "default"


def test_a_variable_is_pickled_with_its_default_or_without() -> None:
    assert default_of(ContextVar("without")) == ()
    assert default_of(ContextVar("with", default=None)) == (None,)
    variable: ContextVar[int] = ContextVar("set", default=1)
    variable.set(2)
    assert default_of(variable) == (1,)


def test_a_default_that_can_not_be_pickled_is_an_error_that_says_so() -> None:
    frame = sys._getframe()
    variable: ContextVar[Any] = ContextVar("variable", default=frame)
    with pytest.raises((TypeError, pickle.PicklingError), match="frame"):
        Link().encoder.encode([variable])
