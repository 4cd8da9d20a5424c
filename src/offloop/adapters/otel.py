"""OpenTelemetry's side of spans for tasks: the only module that imports it.

Workers load this too, to take on the context that came with a task: only light imports.
"""

from __future__ import annotations

import time
from contextvars import Context as Variables, ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer, TracerProvider

from offloop.wire.tracebacks import message_of
from offloop.wire.variables import arrivals

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What goes to the worker of OpenTelemetry's context: the headers of its propagators, ``traceparent`` first.
carried: ContextVar[dict[str, str]] = ContextVar("offloop_otel")


def _take_on(headers: dict[str, str]) -> None:
    """In a worker, in a task's context: its parent's span is now the current one."""
    context.attach(propagate.extract(headers))


arrivals[carried] = _take_on


def tracer_of(provider: TracerProvider | None, version: str) -> Tracer:
    """offloop's tracer, of a provider or of the global one."""
    return trace.get_tracer("offloop", version, provider)


class TaskSpan:
    """The span of one task, from the time it is enqueued; its parent is the caller's current span.

    Args:
        tracer: makes it.
        name: its name.
        attributes: what is known of the task.
        variables: the context variables that the task gets, which are changed: in them this span
            is the current one.
    """

    def __init__(
        self, tracer: Tracer, name: str, attributes: Mapping[str, Any], variables: Variables
    ) -> None:
        # Spans have times of the wall clock, tasks those of the monotonic one.
        self._offset = time.time_ns() - time.monotonic_ns()
        self.span: Span = tracer.start_span(name, attributes=attributes)
        if self.span.get_span_context().is_valid:
            variables.run(self._make_current)

    def _make_current(self) -> None:
        context.attach(trace.set_span_in_context(self.span))
        headers: dict[str, str] = {}
        propagate.inject(headers)
        carried.set(headers)

    def note(self, name: str, at: float, **attributes: Any) -> None:
        """An event, at a monotonic time in seconds."""
        self.span.add_event(name, attributes, timestamp=self._wall(at))

    def end(self, at: float, error: BaseException | None, attributes: Mapping[str, Any]) -> None:
        """The task has ended, with an error or without."""
        try:
            self.span.set_attributes(attributes)
            if error is not None:
                text = f"{type(error).__name__}: {message_of(error)}"
                self.span.set_status(Status(StatusCode.ERROR, text))
                self.span.record_exception(error, timestamp=self._wall(at))  # calls the error's own __str__
        finally:
            self.span.end(end_time=self._wall(at))

    def _wall(self, at: float) -> int:
        return int(at * 1e9) + self._offset
