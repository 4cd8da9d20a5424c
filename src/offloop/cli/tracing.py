"""``offloop map --trace FILE``."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from offloop.cli.arguments import UsageError

if TYPE_CHECKING:
    from offloop.workerpool import WorkerPool


@asynccontextmanager
async def traced(pool: WorkerPool, path: str | None) -> AsyncGenerator[None]:
    """Record what a pool does, its end included if that comes within; nothing without a path.

    A trace that could not be written to its end is told of, and fails nothing.

    Raises:
        UsageError: the file can't be opened.
    """
    if path is None:
        yield
        return
    trace = pool.trace(path)
    try:
        trace.start()
    except OSError as error:
        raise UsageError(f"cannot write the trace {path!r}: {error.strerror}") from error
    try:
        yield
    finally:
        try:
            await trace.stop()
        except OSError as error:
            print(
                f"offloop map: the trace {path!r} is incomplete: {error.strerror}",
                file=sys.stderr,
                flush=True,
            )
