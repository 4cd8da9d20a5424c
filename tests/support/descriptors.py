"""Tasks that use up their worker's descriptors; so light that they load nothing which telling of it needs."""

from __future__ import annotations

import os
import resource
import threading

from offloop import Environment, Task

#: How many descriptors a worker may have from then on.
_FEW = 64


class UseUp(Task[None]):
    """Opens what may still be opened, holds on to it, and fails."""

    def run(self, environment: Environment) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        held = environment["held"] = []
        while True:
            held.append(os.dup(0))


class GiveBack(Task[int]):
    """Closes them again; returns how many there were."""

    def run(self, environment: Environment) -> int:
        for fd in environment["held"]:
            os.close(fd)
        return len(environment["held"])


class FailsWhenLoaded:
    """An argument that can't be loaded."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return int, ("no number",)


def new_lock() -> object:
    """A result that can't be pickled."""
    return threading.Lock()


def big_result() -> bytes:
    """A result that would go by segment."""
    return bytes(1 << 20)
