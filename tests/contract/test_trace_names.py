"""Traces of tasks whose names end the program when they are asked for: an observer's question does not."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from offloop import WorkerFactory, WorkerPool


class ExitsWhenShown:
    def __call__(self) -> None: ...

    def __repr__(self) -> str:
        sys.exit(3)


class ExitsWhenNamed(ExitsWhenShown):
    def __getattr__(self, name: str) -> Any:
        if name == "__qualname__":
            sys.exit(3)
        raise AttributeError(name)


class Unnamed(type):
    def __getattribute__(cls, name: str) -> Any:
        return sys.exit(3) if name == "__name__" else super().__getattribute__(name)


class UnnamedError(Exception, metaclass=Unnamed): ...


def fail_unnamed() -> None:
    raise UnnamedError


async def test_what_exits_when_it_is_asked_for_its_name_is_recorded_by_its_class(
    factory: WorkerFactory, tmp_path: Path
) -> None:
    path = tmp_path / "trace.json"
    async with WorkerPool(1, factory=factory) as pool, pool.trace(path):
        await pool.submit(ExitsWhenShown())
        await pool.submit(ExitsWhenNamed())
        await asyncio.gather(pool.submit(fail_unnamed), return_exceptions=True)
    events = [event for event in json.loads(path.read_text()) if event["cat"] == "task"]
    outcomes = {event["args"]["id"]: (event["name"], event["args"]["outcome"]) for event in events}
    succeeded = ("CallableTask", "succeeded")
    assert [outcomes[id] for id in sorted(outcomes)] == [succeeded, succeeded, ("fail_unnamed", "failed")]
