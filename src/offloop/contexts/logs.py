"""What workers log and warn of reaches this process's handlers, on the event loop."""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
import traceback
import warnings
from collections import deque
from time import monotonic
from typing import Any

from offloop.child.filters import find_category
from offloop.reentry import raise_later
from offloop.wire.frames import LOG, WARNING
from offloop.wire.variables import namespace_of

#: Seconds of handling in one turn of the event loop, after which other callbacks get theirs.
BUDGET = 0.001
#: How many records may wait.  Beyond that the oldest is handled at once, budget or not:
#: who logs more than the handlers can take slows its event loop down, as without workers.
MOST = 10_000


class LogQueue:
    """Hands the records and warnings of a pool's workers to this process's handlers, in order.

    Args:
        loop: the event loop, on which the handlers are called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[int, int, bytes | memoryview]] = deque()
        self._spent = 0.0  # in this turn of the loop
        self._is_due = False  # the next turn will call `_turn`
        self._is_busy = False
        self._emptied = asyncio.Event()
        self._registries: dict[str, dict[Any, Any]] = {}

    def put(self, number: int, kind: int, payload: bytes | memoryview) -> None:
        """Take what worker ``number`` said: it is handled now, or in a later turn if there is too much.

        It may be called from within a handler; what comes then waits for its turn.
        """
        self._waiting.append((number, kind, payload))
        if not self._is_busy:
            self._handle_some(BUDGET - self._spent)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._turn)

    async def wait_empty(self) -> None:
        """Wait until all is handled, within the budget of each turn."""
        while self._waiting:
            self._emptied.clear()
            await self._emptied.wait()

    def _turn(self) -> None:
        self._spent = 0.0
        self._handle_some(BUDGET)
        self._is_due = bool(self._waiting)
        if self._is_due:
            self._loop.call_soon(self._turn)
        else:
            self._emptied.set()

    def _handle_some(self, seconds: float) -> None:
        waiting = self._waiting
        start = now = monotonic()
        self._is_busy = True
        try:
            while waiting and (now - start < seconds or len(waiting) > MOST):
                self._handle(*waiting.popleft())
                now = monotonic()
        finally:
            self._is_busy = False
            self._spent += now - start

    def _handle(self, number: int, kind: int, payload: bytes | memoryview) -> None:
        """Call the handlers; what they raise, or a filter makes of a warning, is told to the event loop."""
        try:
            if kind == LOG:
                handle_record(pickle.loads(payload), number)
            else:
                self._show_warning(pickle.loads(payload))
        except (SystemExit, KeyboardInterrupt) as error:
            raise_later(error)  # not from here, where other frames wait to be read
        except BaseException as error:
            self._report(number, kind, error)

    def _show_warning(self, said: tuple[str, list[str], str, int, str, int | None]) -> None:
        text, names, filename, line, module, _ = said
        warning = _warning_of(names, text)
        warnings.warn_explicit(
            warning, type(warning), filename, line, module, self._registry(module, filename)
        )

    def _registry(self, name: str, filename: str) -> dict[Any, Any]:
        """What was shown already: the module's own registry if it is loaded here too."""
        namespace = namespace_of(sys.modules.get(name))
        if namespace.get("__file__") != filename:
            return self._registries.setdefault(name, {})
        registry: dict[Any, Any] = namespace.setdefault("__warningregistry__", {})
        return registry

    def _report(self, number: int, kind: int, error: BaseException) -> None:
        what = f"a {'log record' if kind == LOG else 'warning'} of worker {number} could not be handled"
        if kind == WARNING and isinstance(error, Warning):
            what = f"worker {number} warned, which the filters of warnings make an error"
        try:
            self._loop.call_exception_handler({"message": what, "exception": error})
        except (SystemExit, KeyboardInterrupt) as end:
            raise_later(end)
        except BaseException:  # it logs, to the very handler that has just failed
            traceback.print_exc()


class LogReceiver:
    """One worker's way into a `LogQueue`.

    Args:
        queue: where what it says goes.
        number: the worker's number in its pool, with which its records are marked.
    """

    def __init__(self, queue: LogQueue, number: int) -> None:
        self._queue = queue
        self._number = number

    def receive(self, kind: int, payload: bytes | memoryview) -> None:
        """Take a `LOG` or `WARNING` frame, on the event loop; never raises for what is in it."""
        self._queue.put(self._number, kind, payload)


def handle_record(fields: dict[str, Any], number: int) -> None:
    """Rebuild a record, marked with its worker, and give it to its logger if that is enabled for it."""
    fields.setdefault("worker_id", number)
    if fields["levelname"] == f"Level {fields['levelno']}":  # its name may be known here alone
        name = logging.getLevelName(fields["levelno"])  # pyright: ignore[reportDeprecated]  # not this way
        fields["levelname"] = name
    logger = logging.getLogger(fields["name"])
    if logger.isEnabledFor(fields["levelno"]):
        logger.handle(logging.makeLogRecord(fields))


def _warning_of(names: list[str], text: str) -> Warning:
    """A warning of the first of these categories that is known here, and can be made of a text."""
    for name in names:
        category = find_category(name)
        try:
            if category is not None:
                return category(text)
        except Exception:
            pass  # it wants other arguments; the class that it derives from may do
    return UserWarning(text)
