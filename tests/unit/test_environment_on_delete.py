"""`on_delete`: called exactly once however an entry goes, and free to use the environment."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import pytest

from offloop import LocalEnvironment, TaskCancelled


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


class TestOnDelete:
    @pytest.mark.parametrize(
        "end",
        [
            lambda env, clock: env.delete("key"),
            lambda env, clock: env.__delitem__("key"),
            lambda env, clock: env.pop("key"),
            lambda env, clock: env.popitem(),
            lambda env, clock: env.set("key", "new"),
            lambda env, clock: env.set("key", "value"),
            lambda env, clock: env.set("key", None),
            lambda env, clock: env.__setitem__("key", None),
            lambda env, clock: env.update(key="new"),
            lambda env, clock: (setattr(clock, "now", clock.now + 5), env.expire()),
            lambda env, clock: (setattr(clock, "now", clock.now + 5), env.get("key")),
            lambda env, clock: (setattr(clock, "now", clock.now + 5), env.set("key", "new")),
            lambda env, clock: (setattr(clock, "now", clock.now + 5), env.delete("key")),
            lambda env, clock: env.clear(),
            lambda env, clock: env.close(),
        ],
    )
    def test_it_is_called_exactly_once_with_the_value_however_the_entry_goes(
        self, env: LocalEnvironment, clock: Clock, end: Callable[..., object]
    ) -> None:
        gone: list[object] = []
        env.set("key", "value", ttl=5, on_delete=gone.append)
        assert gone == []
        end(env, clock)
        assert gone == ["value"]
        clock.now += 5
        env.delete("key")
        env.expire()
        env.clear()
        env.close()
        assert gone == ["value"]

    def test_an_entry_replaced_by_the_same_object_goes_too(self, env: LocalEnvironment) -> None:
        gone: list[object] = []
        value = object()
        env.set("key", value, on_delete=gone.append)
        env.set("key", value, on_delete=gone.append)
        assert gone == [value]
        env.delete("key")
        assert gone == [value, value]

    def test_the_entry_is_out_of_the_store_when_it_is_called(
        self, env: LocalEnvironment, clock: Clock
    ) -> None:
        seen: list[object] = []
        ends: list[Callable[[], object]] = [lambda: env.delete("key"), env.clear, env.close, env.expire]
        for end in ends:
            env.set(
                "key",
                1,
                ttl=5,
                on_delete=lambda _: seen.append((env.exists("key"), env.get("key"), len(env))),
            )
            clock.now += 5 if end == env.expire else 0
            end()
        assert seen == [(False, None, 0)] * 4

    def test_the_successor_is_in_the_store_when_an_entry_is_replaced(self, env: LocalEnvironment) -> None:
        seen: list[object] = []
        env.set("key", "old", on_delete=lambda _: seen.append(env.get("key")))
        env.set("key", "new")
        assert seen == ["new"]

    def test_it_may_store_the_key_again(self, env: LocalEnvironment, clock: Clock) -> None:
        gone: list[int] = []

        def again(value: int) -> None:
            gone.append(value)
            env.set("key", value + 1, ttl=5, on_delete=again)

        env.set("key", 0, ttl=5, on_delete=again)
        env.delete("key")
        env.clear()
        clock.now += 5
        env.expire()
        assert (gone, env["key"]) == ([0, 1, 2], 3)
        clock.now += 5
        assert env.get("key") == 4

    def test_it_may_delete_and_clear_others_which_still_go_exactly_once(self, env: LocalEnvironment) -> None:
        gone: list[str] = []

        def clear(value: str) -> None:
            gone.append(value)
            env.delete("b")
            env.clear()

        for key in "abc":
            env.set(key, key, on_delete=clear)
        env.delete("a")
        assert sorted(gone) == ["a", "b", "c"]
        assert len(env) == 0

    def test_clearing_a_thousand_entries_that_each_clear_is_no_deep_recursion(
        self, env: LocalEnvironment, caplog: pytest.LogCaptureFixture
    ) -> None:
        gone: list[int] = []

        def clear(value: int) -> None:
            gone.append(value)
            env.set("key", 0)
            env.clear()

        for number in range(3000):
            env.set(str(number), number, on_delete=clear)
        env.clear()
        assert gone == list(range(3000))
        assert caplog.records == []

    def test_one_that_always_replaces_its_own_successor_ends_in_a_logged_recursion_error(
        self, env: LocalEnvironment, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls = 0

        def again(value: int) -> None:
            nonlocal calls
            calls += 1
            env.set("key", value + 1, on_delete=again)

        env.set("key", 0, on_delete=again)
        env.set("key", 1, on_delete=again)
        assert calls < 2 * sys.getrecursionlimit()
        assert env.exists("key")
        assert any(record.exc_info and record.exc_info[0] is RecursionError for record in caplog.records)

    def test_one_that_raises_is_logged_and_bothers_nobody(
        self, env: LocalEnvironment, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        gone: list[object] = []

        def fail(value: object) -> None:
            gone.append(value)
            raise OSError("closing failed")

        ends: list[Callable[[], object]] = [env.clear, env.close, env.expire]
        for end in ends:
            gone.clear()
            caplog.clear()
            env.set("a", "a", ttl=1, on_delete=fail)
            env.set("b", "b", ttl=2, on_delete=fail)
            env.set("c", "c", ttl=3, on_delete=gone.append)
            clock.now += 3 if end == env.expire else 0
            end()
            assert gone == ["a", "b", "c"]
            assert [record.getMessage() for record in caplog.records] == [
                "on_delete of 'a' failed",
                "on_delete of 'b' failed",
            ]
            assert {(record.name, record.levelno) for record in caplog.records} == {
                ("offloop.environment", logging.ERROR)
            }
            assert "closing failed" in caplog.text

    def test_one_that_raises_keeps_nobody_from_replacing_the_value(
        self, env: LocalEnvironment, caplog: pytest.LogCaptureFixture
    ) -> None:
        env.set("key", "old", on_delete=lambda value: 1 / 0)
        env.set("key", "new")
        assert env["key"] == "new"
        assert "ZeroDivisionError" in caplog.text

    def test_even_a_broken_log_handler_keeps_nobody_from_being_called(self, env: LocalEnvironment) -> None:
        gone: list[object] = []

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise OSError("disk full")

        def fail(value: object) -> None:
            gone.append(value)
            raise ValueError

        for key in "abc":
            env.set(key, key, on_delete=fail)
        log, handler = logging.getLogger("offloop.environment"), Broken()
        log.addHandler(handler)
        try:
            with pytest.raises(OSError, match="disk full"):
                env.clear()
        finally:
            log.removeHandler(handler)
        assert gone == ["a", "b", "c"]

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, TaskCancelled, SystemExit])
    def test_an_interruption_is_raised_once_everybody_was_called(
        self, env: LocalEnvironment, clock: Clock, interruption: type[BaseException]
    ) -> None:
        gone: list[object] = []

        def interrupt(value: object) -> None:
            gone.append(value)
            raise interruption

        ends: list[Callable[[], object]] = [env.clear, env.close, env.expire]
        for end in ends:
            gone.clear()
            for key in "abc":
                env.set(key, key, ttl=5, on_delete=gone.append if key == "b" else interrupt)
            clock.now += 5 if end == env.expire else 0
            with pytest.raises(interruption) as caught:
                end()
            assert gone == ["a", "b", "c"]
            assert caught.value.__notes__ == [f"on_delete of another entry raised {interruption.__name__}"]
            assert len(env) == 0
            assert env.next_deadline() is None

    def test_an_interruption_while_replacing_leaves_the_new_value(self, env: LocalEnvironment) -> None:
        def interrupt(value: object) -> None:
            raise TaskCancelled

        env.set("key", "old", on_delete=interrupt)
        with pytest.raises(TaskCancelled):
            env.set("key", "new", ttl=5)
        assert env["key"] == "new"
        assert env.next_deadline() == 1005.0

    def test_close_also_drops_what_callbacks_store_meanwhile(self, env: LocalEnvironment) -> None:
        gone: list[object] = []
        env.set("key", 1, on_delete=lambda value: env.set("report", value, ttl=5, on_delete=gone.append))
        env.close()
        assert gone == [1]
        assert len(env) == 0

    def test_close_ends_even_if_a_callback_always_stores_again(
        self, env: LocalEnvironment, caplog: pytest.LogCaptureFixture
    ) -> None:
        def again(value: object) -> None:
            env.set("key", value, ttl=5, on_delete=again)

        again("value")
        env.close()
        assert len(env) == 0
        assert env.next_deadline() is None
        assert "kept storing entries" in caplog.text
