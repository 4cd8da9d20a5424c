"""Tasks that need a module which refuses every interpreter but the main one; nothing else here does."""

from __future__ import annotations

import os
from typing import Any

from offloop import Environment, current_task
from support.signals import append_line

REFUSING = "faulthandler"  # of the standard library; it refuses as NumPy and psutil do


class Refused:
    """Loads where its module can be imported, and nowhere else; it stands for a NumPy array."""

    def __reduce__(self) -> Any:
        return __import__, (REFUSING,)


def pid(*_: object) -> int:
    return os.getpid()


def imports_in_the_function(log: str) -> int:
    append_line(log, "began")
    import faulthandler

    return os.getpid() if faulthandler.is_enabled is not None else 0


def calls_what_imports(log: str) -> int:
    return imports_in_the_function(log)


def imports_where_nobody_sees(log: str) -> int:
    append_line(log, "began")
    __import__(REFUSING)
    return os.getpid()


def stream_of(log: str) -> Any:
    yield imports_in_the_function(log)
    yield os.getpid()


def refusing_bootstrap(environment: Environment) -> None:
    __import__(REFUSING)
    environment.set("pid", os.getpid())


def failing_bootstrap(environment: Environment) -> None:
    raise ValueError("as it is")


async def hold() -> int:
    """Say that it runs, and go on when told to."""
    await current_task().channel.asend("it runs")
    await current_task().channel.areceive()
    return os.getpid()
