"""Contexts on their way to a worker: what is told, when, and what comes of it."""

from __future__ import annotations

import gc
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest
from codec_link import Link, importable
from support.variables import request_id, settings

from offloop.child.exchange import Exchange
from offloop.contexts.sending import Sender
from offloop.task import CallableTask, provider
from offloop.wire import variables
from offloop.wire.carrying import CarriedContext, ContextEncoder
from offloop.wire.codec import Decoder
from offloop.wire.definitions import Definitions
from offloop.wire.frames import CALL, CALL_ARGS, CONTEXT, DEFINE, FORGET, RUN, VERBOSITY, FrameDecoder, Record


class Item:
    """An enqueued task, as a link sees it."""

    attempt = 1
    cost = 0.0
    place = 0
    flags = 0

    def __init__(self, id: int, task: Any, context: Context | None) -> None:
        self.id = id
        self.task = task
        call = type(task) is CallableTask
        self.fn, self.args, self.kwargs = (task.fn, task.args, task.kwargs) if call else (None, (), {})
        self.context = context


class Outbox:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, parts: Sequence[Any]) -> None:
        self.data += b"".join(bytes(part) for part in parts)


class Wire:
    """A sender, and what arrives at the other end."""

    def __init__(self, capacity: int = 1000) -> None:
        self.outbox: Any = Outbox()
        lending: Any = types.SimpleNamespace(exchange=Exchange(lambda: None))  # nothing large is sent
        self.sender = Sender(self.outbox, Definitions(importable, capacity), lending)
        self.ids = 0

    def send(self, *contexts: Context | None, task: Any = None) -> list[Record]:
        """Send a task in each of these contexts, in one go."""
        task = task or CallableTask(abs)
        items = [Item(number, task, context) for number, context in enumerate(contexts)]
        return self.send_items(items)

    def send_items(self, items: Sequence[Any]) -> list[Record]:
        assert self.sender.send(items) == []
        data, self.outbox.data = self.outbox.data, b""
        # Levels of loggers go along as well, where another test has changed them.
        return [record for record in FrameDecoder(1 << 30).feed(data) if record[0] != VERBOSITY]


def kinds(records: list[Record]) -> list[int]:
    return [record[0] for record in records if record[0] not in (DEFINE, FORGET)]


def context_of(*values: tuple[ContextVar[Any], Any]) -> Context:
    """A context in which that is set."""
    context = Context()
    for variable, value in values:
        context.run(variable.set, value)
    return context


def carried(payload: bytes | memoryview | None, link: Link | None = None) -> Context:
    """What a task would see."""
    assert payload is not None
    return CarriedContext(payload, (link or Link()).decoder.decode).context(Context())


def encoder_of(link: Link) -> ContextEncoder:
    return ContextEncoder(link.encoder.encode, importable)


def test_tasks_without_variables_come_without_a_frame() -> None:
    assert kinds(Wire().send(None, None)) == [CALL, CALL]


@pytest.mark.parametrize(
    ("task", "kind"),
    [(CallableTask(abs), CALL), (CallableTask(abs, 1), CALL_ARGS), (CallableTask(dict, a=1), CALL)],
    ids=["no arguments", "arguments", "keywords"],
)
def test_one_frame_holds_for_all_tasks_behind_it(task: Any, kind: int) -> None:
    wire = Wire()
    context = context_of((request_id, "mine"))
    records = wire.send(None, context, context.copy(), context, None, None, context, task=task)
    assert kinds(records) == [kind, CONTEXT, kind, kind, kind, CONTEXT, kind, kind, CONTEXT, kind]
    payloads = [record[6] for record in records if record[0] == CONTEXT]
    assert dict(carried(payloads[0]).items()) == {request_id: "mine"}
    assert payloads[1] == b""
    assert kinds(wire.send(context.copy(), task=task)) == [kind], "it has these values already"
    assert kinds(wire.send(None, None, task=task)) == [CONTEXT, kind, kind]
    assert kinds(wire.send(None, task=task)) == [kind]


def test_what_can_not_be_sent_makes_no_frame() -> None:
    of_nothing: ContextVar[int] = ContextVar("of_nothing")
    context = context_of((settings, threading.Lock()), (of_nothing, 1), (provider, lambda: None))
    wire = Wire()
    assert kinds(wire.send(context, None, context, None)) == [CALL] * 4
    assert kinds(wire.send(None, context)) == [CALL] * 2


@pytest.mark.skipif(not hasattr(warnings, "_warnings_context"), reason="filters of warnings are no variable")
def test_the_filters_of_a_context_stay_here() -> None:
    context = context_of((warnings.__dict__["_warnings_context"], "filters"))
    assert kinds(Wire().send(context)) == [CALL]


def test_values_that_are_equal_and_not_the_same_are_told_apart() -> None:
    contexts = [context_of((request_id, value)) for value in (1, True, 1.0)]
    records = Wire().send(*contexts)
    assert kinds(records) == [CONTEXT, CALL] * 3
    values = [carried(record[6])[request_id] for record in records if record[0] == CONTEXT]
    assert list(map(type, values)) == [int, bool, float]


class NeverEqual:
    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        raise AssertionError("values are not to be compared")

    __hash__ = None  # type: ignore[assignment]


def test_values_are_never_compared() -> None:
    first, second = (context_of((settings, NeverEqual(name))) for name in "ab")
    assert kinds(Wire().send(first, second, second.copy())) == [CONTEXT, CALL, CONTEXT, CALL, CALL]


def test_other_variables_with_the_same_values_are_other_contexts() -> None:
    value = "value"
    records = Wire().send(context_of((request_id, value)), context_of((settings, value)))
    assert kinds(records) == [CONTEXT, CALL] * 2


def test_a_value_that_changed_is_told_with_the_next_message() -> None:
    wire = Wire()
    context = context_of((settings, ["a"]))
    wire.send(context)
    context[settings].append("b")
    (record,) = [record for record in wire.send(context, context.copy()) if record[0] == CONTEXT]
    assert carried(record[6])[settings] == ["a", "b"]


def test_a_variable_that_comes_with_a_task_is_told_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    context = context_of((variable, "mine"))
    wire = Wire()
    records = wire.send_items(
        [Item(1, CallableTask(abs), context), Item(2, CallableTask(repr, variable), context.copy())]
    )
    assert kinds(records) == [CALL, CONTEXT, CALL_ARGS]
    (payload,) = [record[6] for record in records if record[0] == CONTEXT]
    received = CarriedContext(payload, Decoder().decode)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(variables, "_by_token", {})
        assert dict(received.context(Context()).items()) == {}, "the code that uses it is not there yet"
    assert dict(received.context(Context()).items()) == {variable: "mine"}


class Refuses:
    tries = 0

    def __reduce__(self) -> Any:
        type(self).tries += 1
        raise SystemExit(3)


def test_an_object_that_refuses_to_be_pickled_is_asked_once() -> None:
    wire = Wire()
    context = context_of((settings, Refuses()), (request_id, "mine"))
    for _ in range(3):
        wire.send(context)
    assert Refuses.tries == 1
    wire.send(context_of((settings, Refuses())))
    assert Refuses.tries == 2


def test_ctrl_c_is_no_refusal() -> None:
    class Interrupts:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    encoder = encoder_of(Link())
    with pytest.raises(KeyboardInterrupt):
        encoder.change_to(context_of((settings, Interrupts())))


def test_a_context_is_not_kept_for_longer_than_its_tasks() -> None:
    class Value:
        pass

    value = Value()
    watched = weakref.ref(value)
    wire = Wire()
    wire.send(context_of((settings, value)))
    del value
    gc.collect()
    assert watched() is None


def test_a_value_of_a_class_that_was_forgotten_meanwhile_is_told_again() -> None:
    class Value:
        name = "value"

    wire, decoder = Wire(capacity=1), Decoder()
    context = context_of((settings, Value()))

    def make(number: int) -> Any:
        return lambda: number

    records = wire.send_items([Item(n, CallableTask(make(n)), context) for n in range(400)])
    assert FORGET in [record[0] for record in records]
    received: CarriedContext | None = None
    for kind, _, ref, _, _, _, payload in records:
        if kind == DEFINE:
            decoder.define(ref, bytes(payload))
        elif kind == FORGET:
            decoder.forget(ref)
        elif kind == CONTEXT:
            received = CarriedContext(payload, decoder.decode)
        else:
            assert received is not None
            assert received.context(Context())[settings].name == "value"


def test_a_variable_waits_for_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variables, "_homes", {})
    module = types.ModuleType("late")
    module.variable = variable = ContextVar("variable")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "late", module)
    link = Link()
    payload = encoder_of(link).change_to(context_of((variable, "mine"), (request_id, "here")))
    assert payload is not None
    received = CarriedContext(payload, link.decoder.decode)
    monkeypatch.delitem(sys.modules, "late")
    assert dict(received.context(Context()).items()) == {request_id: "here"}
    monkeypatch.setitem(sys.modules, "late", module)
    assert received.context(Context())[variable] == "mine"


def test_values_that_can_change_are_loaded_for_each_task() -> None:
    link = Link()
    payload = encoder_of(link).change_to(context_of((settings, ["a"]), (request_id, "mine")))
    assert payload is not None
    received = CarriedContext(payload, link.decoder.decode)
    own = context_of((request_id, "own"), (provider, None))
    first, second = received.context(own), received.context(own)
    assert first[settings] is not second[settings]
    assert first[request_id] == second[request_id] == "mine"
    assert provider in first
    first.run(request_id.set, "changed")
    assert received.context(own)[request_id] == "mine"
    assert own[request_id] == "own"


def test_the_frame_of_a_whole_task_comes_first() -> None:
    class Plain:
        def run(self, environment: Any) -> None: ...

    records = Wire().send(context_of((request_id, "mine")), task=Plain())
    assert kinds(records) == [CONTEXT, RUN]


def test_a_task_that_can_not_be_pickled_changes_nothing() -> None:
    wire = Wire()
    mine, other = context_of((request_id, "mine")), context_of((request_id, "other"))
    wire.send(mine)
    bad = Item(1, CallableTask(repr, threading.Lock()), other)
    assert [item for item, _ in wire.sender.send([bad])] == [bad]
    wire.outbox.data = b""
    assert kinds(wire.send(mine)) == [CALL]


def test_what_is_set_where_the_tests_run_has_no_part_in_this() -> None:
    assert request_id not in copy_context()
