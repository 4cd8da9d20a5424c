"""What hangs on an exception comes back with it: cause, context, notes, members of a group."""

from __future__ import annotations

import pickle
import threading
from typing import Any, Self

from support.failures import (
    BreaksInDumps,
    TwoArguments,
    chained,
    cross,
    encode,
    failed,
    printed,
    raised,
    with_attribute,
)

from offloop.wire.failure import MAX_DEPTH, decode_failure


def test_the_cause_hangs_on_the_remote_traceback() -> None:
    back = cross(chained(how="cause"))
    inner = back.__cause__.__cause__
    assert (type(inner), inner.code) == (TwoArguments, 1)
    assert back.__context__ is inner
    assert "inner" in inner.__cause__.text
    assert printed(back).count("direct cause") == 3


def test_the_context_is_kept_and_printed() -> None:
    back = cross(chained(how="context"))
    assert (type(back.__context__), back.__suppress_context__) == (TwoArguments, False)
    assert back.__cause__.__context__ is back.__context__
    assert back.__cause__.__cause__ is None
    assert "During handling" in printed(back)
    assert printed(back).count("in chained") == 2


def test_a_suppressed_context_is_kept_and_not_printed() -> None:
    back = cross(chained(how="none"))
    assert (type(back.__context__), back.__suppress_context__) == (TwoArguments, True)
    assert "inner" not in printed(back)


def test_a_cause_that_was_never_raised_gets_no_empty_traceback() -> None:
    try:
        raise ValueError("x") from KeyError("made on the spot")
    except ValueError as caught:
        back = cross(caught)
    assert repr(back.__cause__.__cause__) == "KeyError('made on the spot')"
    assert back.__cause__.__cause__.__cause__ is None


def test_an_unpicklable_cause_does_not_cost_the_exception() -> None:
    try:
        raise ValueError("outer") from raised(BreaksInDumps(SystemExit()))
    except ValueError as caught:
        back = cross(caught)
    assert type(back) is ValueError
    assert failed(back.__cause__.__cause__).message == "breaks in dumps"


def test_task_failed_tells_the_whole_chain_in_its_text_and_keeps_it_as_objects() -> None:
    error = with_attribute(chained(how="cause"), lock=threading.Lock())
    back = failed(cross(error))
    first, second = back.traceback.split(
        "\nThe above exception was the direct cause of the following exception:\n\n"
    )
    assert "TwoArguments: 1: inner" in first
    assert "ValueError: outer" in second
    assert type(back.__cause__.__cause__) is TwoArguments  # type: ignore[union-attr]


def test_cycles_come_back_as_cycles() -> None:
    one, other = raised(ValueError("one")), raised(KeyError("other"))
    one.__cause__, other.__cause__ = other, one
    back = cross(one)
    assert back.__cause__.__cause__.__cause__.__cause__ is back
    assert "one" in printed(back)
    one.__cause__ = one.__context__ = None
    other.__cause__, other.__context__ = None, one
    one.__context__ = other
    vars(one)["lock"] = threading.Lock()
    assert failed(cross(one)).traceback.count("ValueError: one") == 1


def test_a_chain_is_cut_at_its_bound() -> None:
    error: BaseException = ValueError("first")
    for i in range(5_000):
        following = ValueError(i)
        following.__context__ = error
        error = following
    failure = encode(error)
    assert len(failure) == MAX_DEPTH + 1
    assert repr(decode_failure(failure, pickle.loads)) == "ValueError(4999)"


def test_notes_come_back_on_rebuilt_and_on_failed_exceptions() -> None:
    error = raised(TwoArguments(1, "x"))
    error.add_note("one")
    error.add_note("two")
    assert cross(error).__notes__ == ["one", "two"]
    assert "\none\ntwo\n" in cross(error).__cause__.text
    assert failed(cross(with_attribute(error, lock=threading.Lock()))).__notes__ == ["one", "two"]


def test_a_second_hop_keeps_the_first_workers_traceback() -> None:
    first = cross(chained(how="cause"))
    second = cross(raised(first))
    assert type(second) is ValueError
    assert second.__cause__.__cause__.text == first.__cause__.text
    assert type(second.__cause__.__cause__.__cause__) is TwoArguments
    assert pickle.loads(pickle.dumps(second)).args == ("outer",)


class Coded(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception], code: int) -> Self:
        self = super().__new__(cls, "coded", errors)
        self.code = code
        return self

    code: int

    def derive(self, errors: Any) -> Coded:
        return Coded(errors, self.code)


class SelfMade(ExceptionGroup[Exception]):
    def __reduce__(self) -> Any:
        return SelfMade, (self.message, list(self.exceptions))


def test_members_keep_their_notes_causes_and_tracebacks() -> None:
    noted = raised(TwoArguments(1, "x"))
    noted.add_note("note")
    inner = ExceptionGroup("inner", [chained(how="cause"), OSError(2, "gone")])  # type: ignore[list-item]
    back = cross(raised(ExceptionGroup("outer", [noted, inner])))  # type: ignore[list-item]
    assert (type(back), back.message, back.args[0]) == (ExceptionGroup, "outer", "outer")
    assert type(back.args[1]) is list
    first, second = back.exceptions
    assert (type(first), first.code, first.__notes__) == (TwoArguments, 1, ["note"])
    assert "in raised" in first.__cause__.text
    assert type(second.exceptions[0].__cause__.__cause__) is TwoArguments
    assert second.exceptions[1].errno == 2
    text = printed(back)
    assert text.count('raise ValueError("outer") from inner') == 1
    assert back.subgroup(TwoArguments).exceptions == (first,)


def test_a_group_subclass_keeps_its_constructor_out_of_it() -> None:
    error = Coded([ValueError(1), KeyError(2)], 7)
    back = cross(raised(error))
    assert (type(back), back.code, back.message) == (Coded, 7, "coded")
    assert repr(back.args) == repr(error.args)
    assert back.args[0][0] is back.exceptions[0]
    assert type(back.split(ValueError)[0]) is Coded


def test_a_group_that_pickles_itself_still_links_its_members() -> None:
    back = cross(raised(SelfMade("own", [chained(how="cause"), ValueError(2)])))  # type: ignore[list-item]
    assert type(back) is SelfMade
    assert type(back.exceptions[0].__cause__.__cause__) is TwoArguments


def test_a_member_that_cannot_cross_is_told_of_and_the_group_stays() -> None:
    back = cross(raised(ExceptionGroup("g", [ValueError(1), BreaksInDumps(SystemExit())])))
    assert repr(back.exceptions[0]) == "ValueError(1)"
    assert failed(back.exceptions[1]).message == "breaks in dumps"


def test_a_group_that_cannot_cross_tells_of_its_members() -> None:
    group = ExceptionGroup("g", [raised(ValueError("first")), raised(KeyError("second"))])  # type: ignore[list-item]
    back = failed(cross(raised(with_attribute(group, lock=threading.Lock()))))
    assert "ExceptionGroup: g (2 sub-exceptions)" in back.traceback
    assert "  Sub-exception 2 of 2:\n    Traceback" in back.traceback
    assert "    KeyError: 'second'" in back.traceback


def test_one_exception_twice_in_a_group_and_in_a_chain_stays_one() -> None:
    shared = raised(ValueError("shared"))
    group = raised(ExceptionGroup("g", [shared, shared]))  # type: ignore[list-item]
    shared.__context__ = group
    back = cross(group)
    assert back.exceptions[0] is back.exceptions[1]
    assert back.exceptions[0].__context__ is back


def test_groups_nested_beyond_the_bound_are_told_of() -> None:
    error: Exception = ValueError("innermost")
    for i in range(3 * MAX_DEPTH):
        error = ExceptionGroup(str(i), [error])
    back = cross(error)
    for _ in range(MAX_DEPTH):
        assert type(back) is ExceptionGroup
        (back,) = back.exceptions
    assert failed(back).type_name == "ExceptionGroup"
