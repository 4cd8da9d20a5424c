"""The environment against a plain model: whatever is done to it, in any order, with a clock set by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from offloop import LocalEnvironment
from offloop.environment import local

KEYS = st.sampled_from("abcde")
VALUES = st.sampled_from([0, "", "x", None])
TTLS = st.sampled_from([None, 0, math.inf, 0.5, 1, 2, 3.5])
SLACK = 3


@dataclass
class Expected:
    """What the model knows of an entry; ``token`` tells its ``on_delete`` calls from all others."""

    value: Any
    ttl: float
    deadline: float
    sliding: bool
    token: int


class EnvironmentMachine(RuleBasedStateMachine):
    """Does everything to an environment and to a dictionary that forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.slack = patch.object(local, "_HEAP_SLACK", SLACK)  # so that it rebuilds its heap often
        self.slack.start()
        self.now = 100.0
        self.env = LocalEnvironment(clock=lambda: self.now)
        self.model: dict[str, Expected] = {}
        self.tokens = 0
        self.gone: list[int] = []
        self.expected_gone: list[int] = []

    def teardown(self) -> None:
        self.slack.stop()
        self.env.close()
        assert sorted(self.gone) == list(range(1, self.tokens + 1)), "each goes exactly once"

    def purge(self) -> None:
        for key in [key for key, entry in self.model.items() if entry.deadline <= self.now]:
            self.leave(key)

    def leave(self, key: str) -> None:
        if key in self.model:
            self.expected_gone.append(self.model.pop(key).token)

    def expect(self, key: str, value: Any, ttl: float | None, sliding: bool) -> Any:
        """Let the model store a value; returns the ``on_delete`` to give to the environment."""
        if value is None:
            self.leave(key)
            return pytest.fail
        token = self.tokens = self.tokens + 1
        ttl = ttl or math.inf
        old, self.model[key] = self.model.get(key), Expected(value, ttl, self.now + ttl, sliding, token)
        if old is not None:
            self.expected_gone.append(old.token)
        return lambda gone: self.gone.append(token) if gone is value else pytest.fail("another's value")

    def read(self, key: str, default: Any = None) -> Any:
        entry = self.model.get(key)
        if entry is None:
            return default
        if entry.sliding:
            entry.deadline = self.now + entry.ttl
        return entry.value

    @rule(seconds=st.sampled_from([0.25, 0.5, 1, 3, 10]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=KEYS, value=VALUES, ttl=TTLS, sliding=st.booleans())
    def set(self, key: str, value: Any, ttl: float | None, sliding: bool) -> None:
        self.purge()
        on_delete = self.expect(key, value, ttl, sliding)
        self.env.set(key, value, ttl, sliding=sliding, on_delete=on_delete)

    @rule(
        key=KEYS, options=st.sampled_from([{"ttl": -1}, {"ttl": True}, {"on_delete": 1}, {"ttl": math.nan}])
    )
    def set_wrongly(self, key: str, options: dict[str, Any]) -> None:
        with pytest.raises((TypeError, ValueError)):
            self.env.set(key, "wrong", **options)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        self.purge()
        assert self.env.get(key, "default") == self.read(key, "default")

    @rule(key=KEYS)
    def getitem(self, key: str) -> None:
        self.purge()
        if key in self.model:
            assert self.env[key] == self.read(key)
        else:
            with pytest.raises(KeyError):
                self.env[key]

    @rule(key=KEYS)
    def exists(self, key: str) -> None:
        self.purge()
        assert self.env.exists(key) == (key in self.env) == (key in self.model)

    @rule(key=KEYS, value=VALUES, ttl=TTLS, sliding=st.booleans())
    def get_or_set(self, key: str, value: Any, ttl: float | None, sliding: bool) -> None:
        self.purge()
        if key in self.model:
            assert self.env.get_or_set(key, pytest.fail, ttl) == self.read(key)
        else:
            on_delete = self.expect(key, value, ttl, sliding)
            made = self.env.get_or_set(key, lambda: value, ttl, sliding=sliding, on_delete=on_delete)
            assert made is value

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.purge()
        self.leave(key)
        self.env.delete(key)

    @rule(key=KEYS)
    def pop(self, key: str) -> None:
        self.purge()
        expected = self.model[key].value if key in self.model else "default"
        self.leave(key)
        assert self.env.pop(key, "default") == expected

    @precondition(lambda self: self.model)
    @rule()
    def popitem(self) -> None:
        self.purge()
        if self.model:
            key = next(iter(self.model))
            expected = (key, self.model[key].value)
            self.leave(key)
            assert self.env.popitem() == expected
        else:
            with pytest.raises(KeyError):
                self.env.popitem()

    @rule()
    def items(self) -> None:
        self.purge()
        assert list(self.env.items()) == [(key, self.read(key)) for key in self.model]

    @rule(end=st.sampled_from(["clear", "close"]))
    def remove_all(self, end: str) -> None:
        self.purge()
        for key in list(self.model):
            self.leave(key)
        getattr(self.env, end)()

    @rule()
    def compare_everything(self) -> None:
        self.purge()
        assert repr(self.env) == f"<LocalEnvironment entries={len(self.model)}>"
        self.env.expire()
        assert sorted(self.gone) == sorted(self.expected_gone)
        assert list(self.env) == list(self.model)
        assert len(self.env) == len(self.model)
        earliest = min((entry.deadline for entry in self.model.values()), default=math.inf)
        assert self.env.next_deadline() == (None if earliest == math.inf else earliest)

    @invariant()
    def nobody_goes_twice(self) -> None:
        assert len(set(self.gone)) == len(self.gone)

    @invariant()
    def bookkeeping_stays_small(self) -> None:
        assert len(self.env._heap) <= 2 * len(self.env._entries) + SLACK


TestEnvironmentAgainstAModel = EnvironmentMachine.TestCase
TestEnvironmentAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
