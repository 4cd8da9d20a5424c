"""Log records made by tasks in thread workers are marked with worker and task ids."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from offloop.task import find_task

#: How many frames lie at the most between a record's factory and `logging.Logger.makeRecord`.
_MAX_DEPTH = 8


class MarkingFactory:
    """A factory of log records that marks those made within a task.

    Args:
        make: the factory that makes them: the one that was set before.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Make a record."""
        record = self._make(*args, **kwargs)
        task = find_task()
        if task is not None:
            extra = _extra()
            for name in ("worker_id", "task_id"):
                if name not in extra:  # else `logging` would raise a KeyError in the task
                    record.__dict__.setdefault(name, getattr(task, name))
        return record


def _extra() -> dict[str, Any]:
    """The ``extra`` of the call that the record is made for: the program's own attributes win."""
    frame = sys._getframe(2)
    for _ in range(_MAX_DEPTH):
        if frame.f_code is logging.Logger.makeRecord.__code__:
            return frame.f_locals.get("extra") or {}
        if frame.f_back is None:
            break
        frame = frame.f_back
    return {}


def mark_records() -> None:
    """From now on mark the records of this process's tasks, whoever else has a say in making records."""
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, MarkingFactory):
        logging.setLogRecordFactory(MarkingFactory(factory))
