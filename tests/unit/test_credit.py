"""The window of a stream: the sender never runs further ahead, and never waits for ever."""

from __future__ import annotations

from hypothesis import given, strategies as st

from offloop.wire.credit import BYTES, ITEMS, ReceiveWindow, SendWindow

SIZES = st.one_of(st.integers(0, 100), st.integers(0, BYTES), st.just(300 << 20))


def test_the_window_is_full_after_so_many_items() -> None:
    window = SendWindow()
    assert all(window.sent(1) for _ in range(ITEMS - 1))
    assert not window.sent(1)
    assert not window.has_room()
    window.grant(1, 1)
    assert window.has_room()


def test_one_item_may_be_larger_than_the_window() -> None:
    window = SendWindow()
    assert window.has_room()
    assert not window.sent(10 * BYTES)
    window.grant(1, 10 * BYTES)
    assert window.has_room()


@given(st.lists(SIZES, max_size=600), st.randoms(use_true_random=False))
def test_every_item_comes_through_whenever_each_side_gets_its_turn(sizes: list[int], random: object) -> None:
    sender, receiver = SendWindow(), ReceiveWindow()
    to_send, under_way, consumed = list(reversed(sizes)), list[int](), list[int]()
    while len(consumed) < len(sizes):
        may_send = bool(to_send) and sender.has_room()
        assert may_send or under_way, "a sender that waits has something to be granted"
        if may_send and (not under_way or random.random() < 0.5):  # type: ignore[attr-defined]
            size = to_send.pop()
            assert sender.sent(size) == sender.has_room()
            under_way.append(size)
            assert len(under_way) <= ITEMS
            assert sum(under_way[:-1]) < BYTES
        else:
            consumed.append(under_way.pop(0))
            grant = receiver.consumed(consumed[-1])
            if grant is not None:
                sender.grant(*grant)
    assert consumed == sizes
