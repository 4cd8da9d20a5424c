"""Classes by value, and what is evicted."""

from __future__ import annotations

import pickle

import pytest
from codec_link import ADD, Base, Color, Derived, Left, Link, Point, Right, function, make_point

from offloop.wire.byvalue import cloudpickle
from offloop.wire.definitions import GRACE
from offloop.wire.pickling import is_named


@pytest.fixture
def link() -> Link:
    return Link()


def test_an_instance_refers_to_its_class_by_number(link: Link) -> None:
    first = link.encoder.encode(Point(1))
    assert len(link.defined) == 1
    assert len(link.encoder.encode(Point(1))) == len(first) < 100
    assert len(link.defined) == 1
    assert link.decoder.decode(first).x == 1


def test_an_original_class_is_found_again_and_left_as_it_is(link: Link) -> None:
    before = dict(vars(Point))
    copy = link.send(Point(2))
    assert type(copy) is Point
    assert type(link.reply(copy)) is Point
    assert all(vars(Point)[name] is value for name, value in before.items())


def test_a_patched_class_makes_a_new_definition(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    link.encoder.encode(Point(1))
    monkeypatch.setattr(Point, "scaled", lambda self: -1)
    link.encoder.encode(Point(1))
    monkeypatch.setattr(Point, "extra", 1, raising=False)
    link.encoder.encode([Point(1)])
    assert len(link.defined) == 3
    assert len(link.definitions) == 1


def test_a_patched_class_makes_new_definitions_of_functions_that_capture_it(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = link.encoder.reference(make_point)
    assert link.encoder.reference(make_point) == first
    monkeypatch.setattr(Point, "scaled", lambda self: -1)
    assert link.encoder.reference(make_point) != first


@pytest.mark.parametrize("classes", [(Left, Right), (Base, Derived), (Derived, Base)])
def test_classes_that_refer_to_each_other_are_one_definition_with_two_numbers(
    link: Link, classes: tuple[type, type]
) -> None:
    assert link.send([cls() for cls in classes]) != []
    assert len(link.defined) == len(set(link.defined)) == 2
    assert {link.encoder.reference(cls) for cls in classes} == set(link.defined)
    assert [link.function(cls) for cls in classes] == list(classes)


def test_a_class_met_inside_a_function_is_the_one_that_instances_have(link: Link) -> None:
    make = link.function(make_point)
    assert type(link.send(Point(1))) is type(make(1))
    assert link.decoder.number_of(Point)


def test_an_enum_member_stays_the_same_object(link: Link) -> None:
    assert link.send([Color.RED, Color])[0] is Color.RED


def test_mutable_class_attributes_are_as_they_were_when_the_class_was_sent(link: Link) -> None:
    class Counted:
        seen: list[int] = []

    link.encoder.encode(Counted())
    Counted.seen.append(1)
    link.encoder.encode(Counted())
    assert len(link.defined) == 1


def test_a_copy_of_a_class_is_updated_by_its_new_definition(link: Link) -> None:
    class Local:
        value = 1

    # Without its tracker id here, the class is as new to the decoder as to another process.
    number = link.encoder.reference(Local)
    by_id = cloudpickle()._DYNAMIC_CLASS_TRACKER_BY_ID
    by_id.pop(cloudpickle()._DYNAMIC_CLASS_TRACKER_BY_CLASS[Local])
    copy = link.decoder.resolve(number)
    assert copy is not Local
    Local.value = 2
    assert link.function(Local) is copy
    assert copy.value == 2
    assert link.reply(copy()).__class__ is Local


def test_the_oldest_definitions_are_evicted_and_then_forgotten() -> None:
    link = Link(capacity=4)
    functions = [function(ADD, K=k) for k in range(300)]
    numbers = [link.encoder.reference(f) for f in functions]
    assert numbers == sorted(set(numbers))
    assert len(link.definitions) == 4
    link.encoder.encode([0])
    assert link.forgotten == numbers[: len(link.forgotten)]
    assert 300 - 4 - 3 * GRACE < len(link.forgotten) <= 300 - 4 - GRACE
    with pytest.raises(pickle.UnpicklingError):
        link.decoder.resolve(numbers[0])
    again = link.encoder.reference(functions[0])
    assert again > max(numbers)
    assert link.decoder.resolve(again)(1) == 1


def test_tables_stay_small_when_only_arguments_bring_functions() -> None:
    link = Link(capacity=4)
    for k in range(500):
        assert link.send([function(ADD, K=k)])[0](1) == k + 1
    assert len(link.defined) - len(link.forgotten) < 4 + 3 * GRACE
    assert len(link.encoder._ready) < 4 + 3 * GRACE


def test_one_message_may_use_more_definitions_than_there_is_room_for() -> None:
    link = Link(capacity=2)
    functions = [function(ADD, K=k) for k in range(300)]
    number = link.encoder.reference(functions[0])
    data = link.encoder.encode(functions)
    assert [f(0) for f in link.decoder.decode(data)] == list(range(300))
    assert link.decoder.resolve(number)(1) == 1


def test_a_class_that_others_need_is_evicted_only_after_them() -> None:
    link = Link(capacity=3)
    cls = link.encoder.reference(Point)
    user = link.encoder.reference(make_point)
    for k in range(4):
        link.encoder.reference(function(ADD, K=k))
    assert user not in link.definitions
    assert cls not in link.definitions
    assert link.function(make_point)(1).x == 1


def test_a_result_whose_class_was_evicted_meanwhile_is_still_of_that_class() -> None:
    link = Link(capacity=1)
    copy = link.send(Point(1))
    data = link.reply_encoder.encode(copy)
    for k in range(300):
        link.encoder.reference(function(ADD, K=k))
    assert link.forgotten
    assert type(link.reply_decoder.decode(data)) is Point
    assert not link.decoder.number_of(Point)
    assert type(link.reply(copy)) is Point


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, ValueError])
def test_a_class_that_does_not_say_its_name_is_not_named(error: type[BaseException]) -> None:
    assert not is_named(silent_class(error), lambda _: True)


def test_an_interrupt_while_a_class_is_asked_for_its_name_is_one() -> None:
    with pytest.raises(KeyboardInterrupt):
        is_named(silent_class(KeyboardInterrupt), lambda _: True)


def silent_class(error: type[BaseException]) -> type:
    class Silent(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise error

    return Silent("Quiet", (), {})
