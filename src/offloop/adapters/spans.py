"""A span of OpenTelemetry for each task: what tells `adapters.otel` of them."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import offloop
from offloop.adapters.otel import TaskSpan, tracer_of
from offloop.observed import Ending, Observer, attach, unobserve
from offloop.registry import newcomers
from offloop.task import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer, TracerProvider

    from offloop.dispatcher import Dispatcher
    from offloop.execution import Execution


class Spans(Observer):
    """Opens a span for each task of one pool, and closes it when the task has ended."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[int, TaskSpan] = {}

    def enqueued(self, execution: Execution[Any]) -> None:
        """Open a task's span, in the context of who enqueues it."""
        if execution.context is None:
            execution.context = copy_context()
        attributes = {"offloop.task.id": execution.id}
        name = name_of(execution.task)
        self._open[execution.id] = TaskSpan(self._tracer, name, attributes, execution.context)

    def ended(self, execution: Execution[Any], ending: Ending) -> None:
        """Close a task's span; one whose worker died and that runs again gets a note."""
        is_over = ending.outcome != "retried"
        span = self._open.pop(execution.id, None) if is_over else self._open.get(execution.id)
        if span is None:  # it was enqueued before anybody looked
            return
        if ending.start is not None:
            span.note("started", ending.start, **{"offloop.worker.id": ending.worker or 0})
        if not is_over:
            span.note("worker died", ending.end)
            return
        attributes: dict[str, Any] = {"offloop.outcome": ending.outcome, "offloop.attempt": execution.attempt}
        if ending.worker is not None:
            attributes["offloop.worker.id"] = ending.worker
        if ending.start is not None:
            attributes["offloop.wait_seconds"] = max(0.0, ending.start - execution._enqueued)
        span.end(ending.end, ending.error, attributes)


def register(provider: TracerProvider | None) -> Callable[[], None]:
    """See `offloop.register_opentelemetry`."""
    tracer = tracer_of(provider, offloop.__version__)
    observed: WeakKeyDictionary[Dispatcher, Spans] = WeakKeyDictionary()

    def look_at(dispatcher: Dispatcher) -> None:
        observed[dispatcher] = spans = Spans(tracer)
        attach(dispatcher, spans)

    def stop() -> None:
        if look_at in newcomers:
            newcomers.remove(look_at)
        for dispatcher, spans in list(observed.items()):
            _unobserve_soon(dispatcher, spans)

    newcomers.append(look_at)
    return stop


def _unobserve_soon(dispatcher: Dispatcher, spans: Spans) -> None:
    """In a turn of its own: this may be called where the dispatcher is in the midst of something."""
    if dispatcher.loop is None:  # it was not used yet
        unobserve(dispatcher, spans)
        return
    try:
        dispatcher.loop.call_soon_threadsafe(unobserve, dispatcher, spans)
    except RuntimeError:
        pass  # the loop was closed: there is nothing to be told any more
