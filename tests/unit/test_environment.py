"""The environment: what each line of the contract's table promises, with a clock set by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from offloop import LocalEnvironment

BAD_KEYS = [None, 1, b"key", ("key",), ["unhashable"]]


class Clock:
    """Time that moves only when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def env(clock: Clock) -> LocalEnvironment:
    return LocalEnvironment(clock=clock)


class TestGetAndSet:
    def test_what_was_set_is_there(self, env: LocalEnvironment) -> None:
        env.set("key", "value")
        assert env.get("key") == "value"
        assert env.exists("key")
        assert "key" in env

    def test_a_missing_key_is_not_there_and_gets_the_default(self, env: LocalEnvironment) -> None:
        assert env.get("key") is None
        assert env.get("key", "default") == "default"
        assert not env.exists("key")
        assert "key" not in env

    @pytest.mark.parametrize("value", [0, "", False, [], math.nan])
    def test_falsy_values_are_values(self, env: LocalEnvironment, value: Any) -> None:
        env.set("key", value)
        assert env.get("key", "default") is value
        assert env.exists("key")

    def test_setting_none_deletes(self, env: LocalEnvironment) -> None:
        env.set("key", "value")
        env.set("key", None)
        assert not env.exists("key")
        assert len(env) == 0

    def test_setting_none_on_a_missing_key_is_no_error_and_calls_nobody(self, env: LocalEnvironment) -> None:
        gone: list[object] = []
        env.set("key", None, on_delete=gone.append)
        env.clear()
        assert gone == []

    def test_delete_removes_and_a_missing_key_is_no_error(self, env: LocalEnvironment) -> None:
        env.set("key", "value")
        env.delete("key")
        env.delete("key")
        assert not env.exists("key")

    def test_clear_removes_all(self, env: LocalEnvironment) -> None:
        env.update(a=1, b=2)
        env.clear()
        assert list(env) == []

    def test_two_environments_share_nothing(self, env: LocalEnvironment) -> None:
        env.set("key", "value")
        assert not LocalEnvironment().exists("key")

    def test_repr_counts_the_entries_and_calls_nobody_back(self, env: LocalEnvironment, clock: Clock) -> None:
        gone: list[object] = []
        env.set("a", 1)
        env.set("b", 2, ttl=5, on_delete=gone.append)
        assert repr(env) == "<LocalEnvironment entries=2>"
        clock.now += 5
        assert repr(env) == "<LocalEnvironment entries=1>"
        assert gone == []


class TestKeys:
    @pytest.mark.parametrize("key", BAD_KEYS, ids=repr)
    @pytest.mark.parametrize(
        "use",
        [
            lambda env, key: env.exists(key),
            lambda env, key: key in env,
            lambda env, key: env.get(key),
            lambda env, key: env[key],
            lambda env, key: env.set(key, 1),
            lambda env, key: env.set(key, None),
            lambda env, key: env.__setitem__(key, 1),
            lambda env, key: env.delete(key),
            lambda env, key: env.__delitem__(key),
            lambda env, key: env.pop(key, None),
            lambda env, key: env.setdefault(key, 1),
            lambda env, key: env.get_or_set(key, lambda: 1),
        ],
    )
    def test_a_key_that_is_no_str_is_refused(
        self, env: LocalEnvironment, use: Callable[..., object], key: Any
    ) -> None:
        env.set("other", 1)
        with pytest.raises(TypeError):
            use(env, key)
        assert dict(env) == {"other": 1}

    def test_a_subclass_of_str_and_the_empty_string_are_keys(self, env: LocalEnvironment) -> None:
        class Name(str):
            __slots__ = ()

        env.set(Name("key"), 1)
        env.set("", 2)
        assert dict(env) == {"key": 1, "": 2}


class TestTtl:
    @pytest.mark.parametrize(
        "ttl", [5, 5.0, Fraction(5), np.float32(5), np.int64(5)], ids=lambda ttl: type(ttl).__name__
    )
    def test_an_entry_is_there_until_its_deadline_and_gone_at_it(
        self, env: LocalEnvironment, clock: Clock, ttl: Any
    ) -> None:
        env.set("key", "value", ttl=ttl)
        clock.now += 4.999
        assert env.exists("key")
        clock.now = 1005.0
        assert not env.exists("key")

    @pytest.mark.parametrize("ttl", [None, 0, 0.0, -0.0, math.inf, 10**400], ids=lambda ttl: str(ttl)[:5])
    def test_a_ttl_of_none_zero_or_infinity_is_unlimited(
        self, env: LocalEnvironment, clock: Clock, ttl: Any
    ) -> None:
        env.set("key", "value", ttl=ttl)
        clock.now += 1e12
        assert env.get("key") == "value"
        assert env.next_deadline() is None

    @pytest.mark.parametrize(
        "look",
        [
            lambda env: env.exists("key"),
            lambda env: "key" in env,
            lambda env: env.get("key") is not None,
            lambda env: env.pop("key", None) is not None,
            len,
            list,
            lambda env: list(env.keys()),
            lambda env: list(env.values()),
            lambda env: list(env.items()),
            lambda env: "value" in env.values(),
            lambda env: ("key", "value") in env.items(),
            lambda env: env != {},
        ],
    )
    def test_an_expired_entry_is_gone_for_whoever_looks(
        self, env: LocalEnvironment, clock: Clock, look: Callable[[LocalEnvironment], object]
    ) -> None:
        gone: list[object] = []
        env.set("key", "value", ttl=5, on_delete=gone.append)
        assert look(env)
        env.set("key", "value", ttl=5, on_delete=gone.append)
        gone.clear()
        clock.now += 5
        assert not look(env)
        assert gone == ["value"]

    def test_an_expired_entry_is_missing_for_getitem_delitem_and_pop(
        self, env: LocalEnvironment, clock: Clock
    ) -> None:
        for use in (env.__getitem__, env.__delitem__, env.pop):
            env.set("key", "value", ttl=5)
            clock.now += 5
            with pytest.raises(KeyError, match="key"):
                use("key")

    def test_setting_again_sets_the_ttl_anew(self, env: LocalEnvironment, clock: Clock) -> None:
        env.set("longer", 1, ttl=5)
        env.set("longer", 2, ttl=50)
        env.set("shorter", 1, ttl=50)
        env.set("shorter", 2, ttl=5)
        env.set("unlimited", 1, ttl=5)
        env["unlimited"] = 2
        clock.now += 5
        assert dict(env) == {"longer": 2, "unlimited": 2}

    @pytest.mark.parametrize("ttl", [True, False, "5", b"5", 5j, [5], Decimal(5), np.True_], ids=repr)
    def test_a_ttl_that_is_no_number_is_a_type_error(self, env: LocalEnvironment, ttl: Any) -> None:
        with pytest.raises(TypeError, match="ttl"):
            env.set("key", "value", ttl=ttl)

    @pytest.mark.parametrize(
        "ttl", [-1, -0.001, -math.inf, math.nan, -(10**400)], ids=lambda ttl: str(ttl)[:6]
    )
    def test_a_negative_ttl_or_nan_is_a_value_error(self, env: LocalEnvironment, ttl: Any) -> None:
        with pytest.raises(ValueError, match="ttl"):
            env.set("key", "value", ttl=ttl)

    @pytest.mark.parametrize("value", ["new", None])
    @pytest.mark.parametrize(
        "options", [{"ttl": True}, {"ttl": -1}, {"ttl": math.nan}, {"on_delete": "close"}], ids=repr
    )
    def test_refused_arguments_leave_the_entry_as_it_was(
        self, env: LocalEnvironment, clock: Clock, options: dict[str, Any], value: Any
    ) -> None:
        gone: list[object] = []
        env.set("key", "old", ttl=5, on_delete=gone.append)
        with pytest.raises((TypeError, ValueError)):
            env.set("key", value, **options)
        assert env.get("key") == "old"
        assert gone == []
        clock.now += 5
        env.expire()
        assert gone == ["old"]

    def test_what_a_callback_stores_may_itself_have_expired_by_the_time_it_is_looked_at(
        self, env: LocalEnvironment, clock: Clock
    ) -> None:
        def slowly(value: object) -> None:
            env.set("key", "again", ttl=1)
            clock.now += 1

        env.set("key", "value", ttl=5, on_delete=slowly)
        clock.now += 5
        assert env.get("key") is None


class TestSliding:
    @pytest.mark.parametrize("use", [lambda env: env.get("key"), lambda env: env["key"]])
    def test_every_get_restarts_the_ttl(
        self, env: LocalEnvironment, clock: Clock, use: Callable[[LocalEnvironment], object]
    ) -> None:
        env.set("key", "value", ttl=5, sliding=True)
        for _ in range(4):
            clock.now += 4
            assert use(env) == "value"
        clock.now += 5
        assert not env.exists("key")

    @pytest.mark.parametrize(
        "look", [lambda env: env.exists("key"), lambda env: "key" in env, len, list, repr]
    )
    def test_looking_without_get_does_not_restart_it(
        self, env: LocalEnvironment, clock: Clock, look: Callable[[LocalEnvironment], object]
    ) -> None:
        env.set("key", "value", ttl=5, sliding=True)
        clock.now += 4
        look(env)
        clock.now += 1
        assert not env.exists("key")

    def test_without_sliding_get_does_not_restart_it(self, env: LocalEnvironment, clock: Clock) -> None:
        env.set("key", "value", ttl=5)
        clock.now += 4
        env.get("key")
        clock.now += 1
        assert not env.exists("key")

    def test_get_does_not_raise_an_entry_that_has_expired(self, env: LocalEnvironment, clock: Clock) -> None:
        env.set("key", "value", ttl=5, sliding=True)
        clock.now += 5
        assert env.get("key") is None

    def test_a_moved_deadline_is_what_the_worker_is_told(self, env: LocalEnvironment, clock: Clock) -> None:
        env.set("sliding", 1, ttl=5, sliding=True)
        env.set("fixed", 2, ttl=7)
        clock.now += 4
        env.get("sliding")
        assert env.next_deadline() == 1007.0
        clock.now += 3
        env.expire()
        assert env.next_deadline() == 1009.0
        assert list(env) == ["sliding"]


class TestExpiryByItself:
    def test_the_next_deadline_is_the_earliest_of_those_still_there(self, env: LocalEnvironment) -> None:
        assert env.next_deadline() is None
        env["unlimited"] = 0
        assert env.next_deadline() is None
        env.set("late", 1, ttl=9)
        env.set("early", 2, ttl=3)
        assert env.next_deadline() == 1003.0
        env.delete("early")
        assert env.next_deadline() == 1009.0
        env.clear()
        assert env.next_deadline() is None

    def test_expire_drops_what_is_due_in_order_of_deadline(self, env: LocalEnvironment, clock: Clock) -> None:
        gone: list[object] = []
        for key, ttl in {"c": 3, "a": 1, "d": 4, "b": 2}.items():
            env.set(key, key, ttl=ttl, on_delete=gone.append)
        env.expire()
        assert gone == []
        clock.now += 3
        env.expire()
        assert gone == ["a", "b", "c"]
        assert list(env) == ["d"]

    def test_expire_frees_the_value(self, env: LocalEnvironment, clock: Clock) -> None:
        freed: list[str] = []

        class Value:
            def __del__(self) -> None:
                freed.append("value")

        env.set("key", Value(), ttl=5)
        clock.now += 5
        env.expire()
        assert freed == ["value"]

    @pytest.mark.parametrize("again", ["delete", "replace", "slide"])
    def test_bookkeeping_stays_small_however_often_entries_change(
        self, env: LocalEnvironment, clock: Clock, again: str
    ) -> None:
        env.set("first", 0, ttl=1e5)  # on top of the heap, where it hides what is stale
        env.set("key", 0, ttl=1e6, sliding=True)
        for number in range(2000):
            clock.now += 1
            if again == "delete":
                env.delete("key")
            if again != "slide":
                env.set("key", number, ttl=1e6)
            assert env.exists("key")
            env.get("key")
            env.next_deadline()
        assert len(env._heap) < 100

    def test_entries_without_ttl_survive_the_rebuilding_of_the_bookkeeping(
        self, env: LocalEnvironment, clock: Clock
    ) -> None:
        env["unlimited"] = 0
        env.set("sliding", 1, ttl=900, sliding=True)
        env.set("late", 2, ttl=1200)
        clock.now += 500
        env.get("sliding")
        for number in range(300):
            env.set("busy", number, ttl=5)
        assert env.next_deadline() == 1505.0
        clock.now += 5
        env.expire()
        assert env.next_deadline() == 2200.0
        clock.now = 2200.0
        assert list(env) == ["unlimited", "sliding"]
        clock.now = 2400.0
        assert list(env) == ["unlimited"]
        assert env.next_deadline() is None
