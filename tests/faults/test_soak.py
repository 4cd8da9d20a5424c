"""A short soak: mixed tasks under random kills, each accounted for.  ``scripts/soak`` runs it for hours."""

from __future__ import annotations

import random

import pytest
from soak.__main__ import Plan, soak
from soak.load import check_history
from soak.waves import Account

from offloop import WorkerCrashed


@pytest.mark.parametrize("tasks", [0, 20_000], ids=["mixed tasks", "waves of tiny tasks"])
async def test_under_random_kills_every_task_ends_once_and_nothing_is_left(tasks: int) -> None:
    random.seed(7)
    assert await soak(Plan(seconds=3.0, tasks=tasks, workers=3, depth=300, every=0.05, quiet=True)) == []


@pytest.mark.parametrize(
    ("text", "finished", "complaint"),
    [
        ("start 1\nend 1\nstart 1\nend 1\n", {1: True}, "task 1 ran 2 times"),
        ("start 1\n", {1: True}, "to its end 0 times"),
        ("", {1: True}, "task 1 returned and ran 0 times"),
        ("start 2\n", {1: False}, "task 2 was never enqueued"),
    ],
)
def test_the_history_is_checked(text: str, finished: dict[int, bool], complaint: str) -> None:
    assert complaint in " ".join(check_history(text, finished))


def test_a_task_that_was_killed_may_have_begun_or_not() -> None:
    assert check_history("start 1\n", {1: False, 2: False}) == []


@pytest.mark.parametrize(
    ("outcomes", "runs", "complaint"),
    [
        ([1, 2], [1, 2, 2], "task 2 ran 2 times"),
        ([1, WorkerCrashed("")], [1, 2, 2], "task 2 ran 2 times"),
        ([1, 2], [1], "task 2 ran 0 times"),
        ([1], [1], "task 2 never ended"),
        ([1, 2], [1, 2, 3], "task 3 was never enqueued"),
        ([1, ValueError()], [1, 2], "task 2 ended with ValueError"),
        ([1, True], [1, 2], "task 2 ended with True"),
    ],
)
def test_the_account_is_checked(outcomes: list[object], runs: list[int], complaint: str) -> None:
    account = Account(2)
    for number, outcome in zip(account.begin(2), outcomes, strict=False):
        account.end(number, outcome)
    assert complaint in " ".join(account.check(b"".join(run.to_bytes(8, "little") for run in runs)))


def test_an_account_is_right_of_what_crashed_ran_or_not_and_was_cancelled() -> None:
    account = Account(3)
    for number in account.begin(3):
        account.end(number, 1 if number == 1 else WorkerCrashed(""))
    assert account.check((2).to_bytes(8, "little") + (1).to_bytes(8, "little")) == []
    account.end(1, 1)
    assert account.wrong == ["task 1 ended twice"]
