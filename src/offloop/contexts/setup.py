"""What a worker process is told first."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple


class WorkerOptions(NamedTuple):
    """What a worker process is told about itself; see `offloop.ProcessWorkerFactory`."""

    number: int
    slots: int
    cwd: str | None
    nice: int
    cpus: list[int] | None
    memory_limit: int | None
    environment: Any
    bootstrap: Any

    def setup(self) -> dict[str, Any]:
        """The payload of a worker's first frame, with what is taken from this process now."""
        options = self._asdict()
        options["path"] = sys.path
        if options["cwd"] is None:
            try:
                options["cwd"] = os.getcwd()
            except FileNotFoundError:  # deleted under us: the worker stays where it is
                options["cwd"] = "."
        return options
