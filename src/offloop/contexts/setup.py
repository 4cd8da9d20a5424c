"""What a worker process is told first."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from offloop.contexts.imports import path_entries
from offloop.contexts.verbosity import verbosity


class WorkerOptions(NamedTuple):
    """What a worker is told about itself; see `offloop.ProcessWorkerFactory`.

    ``is_remote``: it runs on another machine.  ``looks_out``: one in an interpreter
    imports what a task would before that begins; see `offloop.child.refusals`.
    """

    number: int
    slots: int
    environment: Any
    bootstrap: Any
    cwd: str | None = None
    nice: int = 0
    cpus: list[int] | None = None
    memory_limit: int | None = None
    max_memory: int | None = None
    is_remote: bool = False
    preloads: bool = False
    looks_out: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing that a worker was given can be the death of it while it starts."""
        given = self.environment, self.bootstrap, self.memory_limit
        return not self.preloads and all(each is None for each in given)

    def setup(self) -> dict[str, Any]:
        """The payload of a worker's first frame, with what is taken from this process now."""
        options = self._asdict()
        if self.bootstrap is not None and not callable(self.bootstrap):
            options["bootstrap"] = os.path.abspath(self.bootstrap)
        options["path"] = path_entries()
        options["verbosity"] = verbosity.settings()
        try:
            options["cwd"] = os.path.join(os.getcwd(), self.cwd or "")  # the template may have another one
        except FileNotFoundError:  # deleted under us: the worker stays where it is
            options["cwd"] = self.cwd or "."
        return options
