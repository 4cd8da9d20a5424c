"""An interpreter that is given up: whether its task goes on is told by the ledger, and by its journal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import inf

import pytest

from offloop.contexts.interpreter_link import InterpreterLink
from offloop.shm.ledger import LENGTH, SLOTS, Ledger, create_file
from offloop.wire.frames import RESULT, frame


class GivenUp(InterpreterLink):
    """A link of which only the ledger is there."""

    def __init__(self) -> None:
        fd = create_file()
        self.ledger = Ledger(fd, 1)
        os.close(fd)
        self._over = False

    def poll(self, until: float = inf) -> None:
        """Nothing came."""


@pytest.fixture
def link() -> Iterator[GivenUp]:
    link = GivenUp()
    yield link
    link.ledger.close()


def runs(link: GivenUp, id: int) -> None:
    link.ledger.words[SLOTS] = id


def has_ended(link: GivenUp, id: int) -> None:
    outcome = frame(RESULT, id=id)
    link.ledger.journal[: len(outcome)] = outcome
    link.ledger.words[LENGTH] = len(outcome)


def test_a_task_that_runs_goes_on(link: GivenUp) -> None:
    assert not link._is_busy()
    runs(link, 7)
    assert link._is_busy()


def test_a_task_whose_outcome_waits_to_be_sent_has_ended(link: GivenUp) -> None:
    runs(link, 7)
    has_ended(link, 7)
    assert not link._is_busy()


def test_another_task_that_began_meanwhile_runs(link: GivenUp) -> None:
    runs(link, 8)
    has_ended(link, 7)
    assert link._is_busy()
