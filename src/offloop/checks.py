"""Refusing what is no task, and options that no task can have."""

from __future__ import annotations

from collections.abc import Hashable


def check_task(task: object) -> None:
    """Refuse what is no task."""
    if not callable(getattr(task, "run", None)):
        hint = ": a callable is run by submit(fn, ...)" if callable(task) else ""
        raise TypeError(f"a task needs a run(environment) method, which {type(task).__name__} has not{hint}")
    if isinstance(task, type):
        raise TypeError(
            f"a task is an instance, and {task.__name__} is a class: enqueue({task.__name__}(...))"
        )


def check_options(timeout: object, priority: object, retries: object, key: Hashable) -> None:
    """Refuse bad options of `Worker.enqueue`."""
    if timeout is not None:
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
            raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0, not {timeout}")
    for name, value in (("priority", priority), ("retries", retries)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if isinstance(retries, int) and retries < 0:
        raise ValueError(f"retries must not be negative, not {retries}")
    hash(key)
