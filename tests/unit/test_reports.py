"""Which reports are sent when."""

from __future__ import annotations

from hypothesis import given, strategies as st

from offloop.child.reports import KEPT, ReportBuffer


def test_the_first_report_goes_at_once_and_the_others_when_it_has_arrived() -> None:
    buffer = ReportBuffer()
    assert buffer.add((1, None, None)) == [(1, None, None)]
    assert buffer.add((2, None, None)) == []
    assert buffer.add((3, None, None)) == []
    assert buffer.arrived() == [(2, None, None), (3, None, None)]
    assert buffer.arrived() == []
    assert buffer.add((4, None, None)) == [(4, None, None)]


def test_what_was_gathered_at_the_end_is_taken() -> None:
    buffer = ReportBuffer()
    buffer.add((1, None, None))
    buffer.add((2, 2, "end"))
    assert buffer.take_rest() == [(2, 2, "end")]
    assert buffer.take_rest() == []


def test_a_flood_is_bounded_and_keeps_its_end() -> None:
    buffer = ReportBuffer()
    for done in range(10 * KEPT):
        buffer.add((done, None, None))
    rest = buffer.arrived()
    assert len(rest) == KEPT
    assert rest[-1] == (10 * KEPT - 1, None, None)


@given(st.lists(st.booleans(), max_size=300))
def test_one_message_is_under_way_at_a_time_and_nothing_is_lost(arrivals: list[bool]) -> None:
    buffer, sent, reported, is_under_way = ReportBuffer(), list[object](), list[object](), False
    for number, arrives in enumerate(arrivals):
        if arrives and is_under_way:
            more = buffer.arrived()
            is_under_way = bool(more)
        else:
            reported.append((number, None, None))
            more = buffer.add((number, None, None))
            assert not (more and is_under_way)
            is_under_way = is_under_way or bool(more)
        sent += more
    assert sent + buffer.take_rest() == reported
