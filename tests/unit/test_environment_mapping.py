"""The environment as a mapping, `get_or_set`, and environments that users write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from offloop import Environment, LocalEnvironment


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


class TestMapping:
    def test_it_is_a_mutable_mapping_that_equals_a_dict(self, env: LocalEnvironment) -> None:
        env["a"] = 1
        env["b"] = 2
        assert isinstance(env, MutableMapping)
        assert env == {"a": 1, "b": 2}
        assert len(env) == 2
        assert list(env) == ["a", "b"]
        assert list(env.keys()) == ["a", "b"]
        assert list(env.values()) == [1, 2]
        assert list(env.items()) == [("a", 1), ("b", 2)]

    def test_getitem_and_delitem_raise_on_a_missing_key(self, env: LocalEnvironment) -> None:
        with pytest.raises(KeyError, match="key"):
            env["key"]
        with pytest.raises(KeyError, match="key"):
            del env["key"]

    def test_delitem_removes(self, env: LocalEnvironment) -> None:
        env["key"] = 1
        del env["key"]
        assert "key" not in env

    def test_setitem_sets_no_ttl_and_none_deletes(self, env: LocalEnvironment, clock: Clock) -> None:
        env.set("key", 1, ttl=5)
        env["key"] = 2
        clock.now += 5
        assert env["key"] == 2
        env["key"] = None
        assert "key" not in env
        env["missing"] = None

    def test_pop_returns_the_value_or_the_default_or_raises(self, env: LocalEnvironment) -> None:
        env["key"] = 1
        assert env.pop("key") == 1
        assert env.pop("key", "default") == "default"
        assert env.pop("key", None) is None
        with pytest.raises(KeyError, match="key"):
            env.pop("key")

    def test_popitem_takes_the_first_and_raises_when_nothing_is_left(self, env: LocalEnvironment) -> None:
        env.update(a=1, b=2)
        assert env.popitem() == ("a", 1)
        assert env.popitem() == ("b", 2)
        with pytest.raises(KeyError):
            env.popitem()

    def test_setdefault_stores_a_default_but_never_none(self, env: LocalEnvironment) -> None:
        assert env.setdefault("key", 1) == 1
        assert env.setdefault("key", 2) == 1
        assert env.setdefault("other", None) is None
        assert env == {"key": 1}

    def test_update_sets_each_and_none_deletes(self, env: LocalEnvironment) -> None:
        env.update({"a": 1, "b": 2})
        env.update([("b", None), ("c", 3)], d=4)
        assert env == {"a": 1, "c": 3, "d": 4}

    def test_a_key_keeps_its_place_when_replaced_but_not_when_it_had_expired(
        self, env: LocalEnvironment, clock: Clock
    ) -> None:
        env["a"] = 1
        env.set("b", 1, ttl=5)
        env["c"] = 1
        env["a"] = 2
        assert list(env) == ["a", "b", "c"]
        clock.now += 5
        env["b"] = 2
        assert list(env) == ["a", "c", "b"]

    def test_entries_may_come_and_go_during_an_iteration(self, env: LocalEnvironment) -> None:
        env.update(a=1, b=2, c=3)
        seen = []
        for key, value in env.items():
            seen.append((key, value))
            env.pop("b", None)
            env["new"] = 4
        assert seen == [("a", 1), ("c", 3)]

    @pytest.mark.parametrize("view", ["keys", "values", "items", "__iter__"])
    def test_entries_that_expire_during_an_iteration_are_left_out(
        self, env: LocalEnvironment, clock: Clock, view: str
    ) -> None:
        env["a"] = "a"
        env.set("b", "b", ttl=5)
        env["c"] = "c"
        seen: list[Any] = []
        for item in getattr(env, view)():
            seen.append(item[0])
            clock.now += 5
        assert seen == ["a", "c"]

    def test_an_entry_that_expires_between_two_steps_of_one_call_is_no_error(self) -> None:
        ticks = iter(range(100_000))
        env = LocalEnvironment(clock=lambda: float(next(ticks)))  # time passes with every look
        outcomes = set()
        for ttl in range(1, 12):
            for use in (
                lambda: list(env.items()),
                lambda: list(env.values()),
                lambda: env.pop("key", "default"),
                lambda: env.setdefault("key", "default"),
            ):
                env.set("key", "value", ttl=ttl)
                outcomes.add(str(use()))
        assert outcomes == {"[]", "[('key', 'value')]", "['value']", "value", "default"}

    def test_values_know_their_members(self, env: LocalEnvironment) -> None:
        env["key"] = 1
        assert 1 in env.values()
        assert 2 not in env.values()
        assert ("key", 1) in env.items()
        assert ("key", 2) not in env.items()
        assert ("other", 1) not in env.items()


class TestGetOrSet:
    def test_a_missing_value_is_made_once_and_stored(self, env: LocalEnvironment) -> None:
        made = iter([1, 2])
        assert env.get_or_set("key", lambda: next(made)) == 1
        assert env.get_or_set("key", lambda: next(made)) == 1
        assert env["key"] == 1

    @pytest.mark.parametrize("value", [0, "", False, []])
    def test_a_falsy_value_is_stored(self, env: LocalEnvironment, value: Any) -> None:
        assert env.get_or_set("key", lambda: value) is value
        assert env.get_or_set("key", lambda: "other") is value

    def test_a_factory_that_returns_none_stores_nothing(self, env: LocalEnvironment) -> None:
        assert env.get_or_set("key", lambda: None) is None
        assert not env.exists("key")

    def test_a_factory_that_fails_leaves_nothing_behind(self, env: LocalEnvironment) -> None:
        with pytest.raises(ZeroDivisionError):
            env.get_or_set("key", lambda: 1 // 0)
        assert not env.exists("key")
        assert env.get_or_set("key", lambda: 1) == 1

    def test_it_takes_the_options_of_set(self, env: LocalEnvironment, clock: Clock) -> None:
        gone: list[object] = []
        env.get_or_set("key", lambda: 1, 5, sliding=True, on_delete=gone.append)
        clock.now += 4
        assert env.get_or_set("key", lambda: 2) == 1
        clock.now += 4
        assert env.exists("key")
        clock.now += 1
        assert env.get_or_set("key", lambda: 2, ttl=5) == 2
        assert gone == [1]

    @pytest.mark.parametrize("present", [True, False])
    @pytest.mark.parametrize(
        "options", [{"ttl": -1}, {"ttl": "5"}, {"on_delete": 5}, {"factory": None}], ids=repr
    )
    def test_wrong_options_are_refused_before_the_factory_is_called(
        self, env: LocalEnvironment, options: dict[str, Any], present: bool
    ) -> None:
        made: list[str] = []
        if present:
            env["key"] = 0
        with pytest.raises((TypeError, ValueError)):
            env.get_or_set("key", **{"factory": lambda: made.append("made"), **options})
        assert made == []
        assert env.exists("key") is present

    def test_an_async_factory_is_refused_with_the_remedy(self, env: LocalEnvironment) -> None:
        async def make() -> int:
            return 1

        with pytest.raises(TypeError, match="aget_or_set"):
            env.get_or_set("key", make)
        assert not env.exists("key")


class Shelf(Environment):
    """A user's environment: the abstract methods and no more."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}

    def exists(self, key: str) -> bool:
        return key in self.content

    def get(self, key: str, default: Any = None) -> Any:
        return self.content.get(key, default)

    def set(
        self, key: str, value: Any, ttl: Any = None, *, sliding: bool = False, on_delete: Any = None
    ) -> None:
        self.content[key] = value

    def delete(self, key: str) -> None:
        self.content.pop(key, None)

    def clear(self) -> None:
        self.content.clear()

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.content))

    def __len__(self) -> int:
        return len(self.content)


class TestSubclass:
    def test_the_interface_can_not_be_used_by_itself(self) -> None:
        with pytest.raises(TypeError, match="abstract"):
            Environment()  # type: ignore[abstract]

    async def test_the_abstract_methods_are_all_that_it_takes(self) -> None:
        shelf = Shelf()

        async def make() -> str:
            return "made"

        shelf["a"] = 1
        assert shelf.get_or_set("b", lambda: 2) == 2
        assert await shelf.aget_or_set("c", make) == "made"
        assert shelf == {"a": 1, "b": 2, "c": "made"}
        assert repr(shelf) == "<Shelf entries=3>"
        with pytest.raises(KeyError):
            shelf["d"]

    def test_what_its_worker_calls_has_defaults(self) -> None:
        shelf = Shelf()
        shelf["a"] = 1
        shelf.expire()
        assert shelf.next_deadline() is None
        assert shelf.take_pending() == []
        assert shelf == {"a": 1}
        shelf.close()
        assert len(shelf) == 0


def test_it_is_light_enough_for_a_worker_and_loads_nothing_heavy_in_use() -> None:
    code = """if True:
        import sys
        from offloop.environment import LocalEnvironment
        env = LocalEnvironment()
        env.set("key", 1, ttl=1e-9, on_delete=print)
        assert not env.exists("key")
        env.set("key", 2, ttl=1, on_delete=print)
        env.get_or_set("key", int)
        env.close()
        heavy = {"asyncio", "logging", "inspect", "dataclasses", "cloudpickle", "numbers"} & set(sys.modules)
        assert not heavy, heavy
    """
    code = f"import sys; sys.path[:] = {sys.path!r}\n{code}"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=45)
    assert (done.returncode, done.stdout) == (0, "1\n2\n"), done.stderr
