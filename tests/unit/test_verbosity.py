"""Noticing that levels or filters have changed."""

from __future__ import annotations

import enum
import logging
import warnings
from pickle import dumps, loads
from typing import TYPE_CHECKING, Any

import pytest

from offloop.contexts.verbosity import Verbosity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOGGER = "offloop_test.verbosity"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What a test changes is changed back."""
    root = logging.root.level
    with warnings.catch_warnings():
        yield
    logging.disable(logging.NOTSET)
    logging.getLogger(LOGGER).setLevel(logging.NOTSET)
    logging.getLogger().setLevel(root)


@pytest.mark.parametrize(
    "change",
    [
        lambda: logging.getLogger().setLevel(5),
        lambda: logging.getLogger(LOGGER).setLevel(logging.DEBUG),
        lambda: logging.disable(logging.INFO),
        lambda: warnings.simplefilter("ignore", ImportWarning),
        lambda: warnings.filterwarnings("ignore", message="appended", append=True),
        lambda: warnings.filterwarnings("error", message="x"),
        warnings.resetwarnings,
    ],
    ids=["root", "logger", "disable", "filter", "append", "message", "reset"],
)
def test_a_change_is_noticed_once(change: Callable[[], Any]) -> None:
    verbosity = Verbosity()
    before = verbosity.version()
    assert verbosity.version() == before
    logging.getLogger(LOGGER).isEnabledFor(logging.INFO)
    logging.getLogger(f"{LOGGER}.new")
    assert verbosity.version() == before
    change()
    after = verbosity.version()
    assert after > before
    assert verbosity.version() == after


def test_a_block_with_filters_of_its_own_is_noticed_at_both_ends() -> None:
    verbosity = Verbosity()
    before = verbosity.version()
    with warnings.catch_warnings():
        within = verbosity.version()
    assert before < within < verbosity.version()


def test_two_who_ask_both_notice() -> None:
    one, other = Verbosity(), Verbosity()
    versions = one.version(), other.version()
    logging.getLogger(LOGGER).setLevel(logging.DEBUG)
    assert one.version() > versions[0]
    assert one.settings()["levels"][LOGGER] == logging.DEBUG


def test_the_settings_are_those_levels_that_were_set() -> None:
    logging.getLogger(f"{LOGGER}.inherits")
    logging.getLogger(LOGGER).setLevel(17)
    logging.disable(3)
    verbosity = Verbosity()
    settings = verbosity.settings()
    assert settings["version"] == verbosity.version()
    assert settings["levels"][LOGGER] == 17
    assert settings["levels"]["root"] == logging.root.level
    assert f"{LOGGER}.inherits" not in settings["levels"]
    assert settings["disabled"] == 3


def test_the_mark_never_answers_for_a_level() -> None:
    Verbosity().version()
    logging.getLogger().setLevel(logging.WARNING)
    assert not logging.getLogger().isEnabledFor(-0x0FF1)


def test_what_was_assigned_by_hand_is_told_as_far_as_it_makes_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    class Level(enum.IntEnum):
        OWN = 17

    monkeypatch.setattr(logging.getLogger(LOGGER), "level", Level.OWN)
    monkeypatch.setattr(logging.getLogger(f"{LOGGER}.odd"), "level", 10.5)
    odd: Any = [("ignore", object(), Warning, None, 0), ("ignore",), None]
    monkeypatch.setattr(warnings, "filters", [*odd, ("ignore", None, UserWarning, None, 0)])
    settings = loads(dumps(Verbosity().settings()))
    assert type(settings["levels"][LOGGER]) is int
    assert f"{LOGGER}.odd" not in settings["levels"]
    assert settings["filters"] == [("ignore", None, "builtins:UserWarning", None, 0)]
