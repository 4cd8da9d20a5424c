"""The queue of waiting tasks, against a sorted list, and its size."""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import NoReturn

import pytest
from fakeworld import Item
from hypothesis import given, strategies as st

from offloop.scheduling.estimate import Kind
from offloop.scheduling.queue import MOST_EMPTY, SWEEP, TaskQueue

KINDS = [Kind(), Kind()]

#: Add in order, put back in front, take the next (and those alike), discard the n-th that waits.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["push", "push_front"]), st.integers(-2, 2)),
        st.tuples(st.just("pop"), st.just(0)),
        st.tuples(st.just("pop_alike"), st.integers(0, 5)),
        st.tuples(st.just("discard"), st.integers(0, 50)),
    ),
    max_size=60,
)


def make_item(id: int, priority: int = 0) -> Item:
    """Of the other kind every fifth time, with a key every seventh time."""
    return Item(id, KINDS[id % 5 == 0], priority=priority, key="k" if id % 7 == 0 else None)


def alike(model: Item, waiting: list[Item]) -> list[Item]:
    """Those in front that may be taken along with an item."""
    same = (model.kind, model.priority, None)
    return list(takewhile(lambda item: (item.kind, item.priority, item.key) == same, waiting))


@given(STEPS)
def test_it_does_what_a_list_kept_in_order_does(steps: list[tuple[str, int]]) -> None:
    queue: TaskQueue[Item] = TaskQueue()
    model: list[Item] = []
    for number, (what, argument) in enumerate(steps):
        if what == "push":
            item = make_item(number, argument)
            queue.push(item)
            at = sum(other.priority >= argument for other in model)
            model.insert(at, item)
        elif what == "push_front":
            item = make_item(number, argument)
            queue.push_front(item)
            at = sum(other.priority > argument for other in model)
            model.insert(at, item)
        elif what == "pop":
            assert queue.pop() is (model.pop(0) if model else None)
        elif what == "pop_alike":
            first = queue.pop()
            assert first is (model.pop(0) if model else None)
            if first is not None:
                run = alike(first, model)[:argument]
                assert queue.pop_alike(first, argument) == run
                assert all(item.queue is None for item in run)
                del model[: len(run)]
        elif model:
            item = model.pop(argument % len(model))
            queue.discard(item)
            assert item.queue is None
        assert len(queue) == len(model)
        assert list(queue) == model
        assert all(item.queue is queue for item in model)


def test_an_item_may_move_to_another_queue_and_back() -> None:
    one, other = TaskQueue[Item](), TaskQueue[Item]()
    item = make_item(1)
    one.push(item)
    assert one.pop() is item
    other.push(item)
    assert (len(one), len(other)) == (0, 1)
    assert other.pop() is item
    one.push_front(item)
    assert list(one) == [item]


def test_discarded_items_are_swept_out() -> None:
    queue: TaskQueue[Item] = TaskQueue()
    items = [make_item(id, id % 3) for id in range(10 * SWEEP)]
    for item in items:
        queue.push(item)
    kept = items[::10]
    for item in items:
        if item.id % 10:
            queue.discard(item)
    held = sum(len(lane) for lane in queue._lanes.values())
    assert held <= len(kept) + max(SWEEP, len(kept)) + 1
    assert sorted(item.id for item in queue) == [item.id for item in kept]


@given(st.permutations(range(9)))
def test_of_items_that_are_all_discarded_nothing_is_left(order: list[int]) -> None:
    queue: TaskQueue[Item] = TaskQueue()
    items = [make_item(id, id % 2) for id in range(9)]
    for item in items:
        queue.push(item)
    for number in order:
        queue.discard(items[number])
    assert not any(queue._lanes.values())
    assert len(queue) == 0


def test_a_priority_that_is_used_up_leaves_nothing() -> None:
    queue: TaskQueue[Item] = TaskQueue()
    for id in range(1000):
        queue.push(make_item(id, priority=id))
        queue.push(make_item(-id, priority=-id))
    while queue.pop() is not None:
        pass
    assert list(queue._lanes) == [0]
    assert queue._above == queue._below == []
    last = make_item(1)
    queue.push(last)
    assert queue.pop() is last


@pytest.mark.parametrize("sign", [1, -1])
def test_priorities_of_cancelled_items_do_not_pile_up(sign: int) -> None:
    queue: TaskQueue[Item] = TaskQueue()
    kept = make_item(0, priority=sign)
    queue.push(kept)
    for id in range(2, 10 * MOST_EMPTY):
        item = make_item(id, priority=sign * id)
        queue.push(item)
        queue.discard(item)
    assert len(queue._lanes) <= 2 + MOST_EMPTY
    assert len(queue._above) + len(queue._below) == len(queue._lanes) - 1
    assert (queue.pop(), len(queue)) == (kept, 0)


class Unseen(dict[int, deque[Item]]):
    """Lanes that nobody is to go over."""

    def values(self) -> NoReturn:
        pytest.fail("it looks at every lane")

    items = __iter__ = values  # type: ignore[assignment]


def test_what_every_plan_and_cancel_asks_for_does_not_look_at_every_priority() -> None:
    queue: TaskQueue[Item] = TaskQueue()
    items = [make_item(id, priority=id - 50) for id in range(100)]
    queue._lanes = Unseen(queue._lanes)
    for item in items:
        queue.push(item)
    queue.discard(items[99])
    assert (len(queue), bool(queue), queue.urgent) == (99, True, (48, 1))
    assert queue.pop() is items[98]
    assert queue.pop_alike(items[98], 10) == []


def test_what_is_urgent_is_told_where_priorities_differ() -> None:
    queue: TaskQueue[Item] = TaskQueue()
    assert queue.urgent is None
    queue.push(make_item(1))
    assert queue.urgent is None  # all have the usual one
    queue.push(make_item(2, 3))
    queue.push(make_item(3, 3))
    assert queue.urgent == (3, 2)
    queue.pop()
    queue.pop()
    queue.push(make_item(4, 2))
    assert queue.urgent == (2, 1)  # the other lane is empty
    queue.pop()
    queue.pop()
    assert queue.urgent is None
