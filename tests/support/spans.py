"""What tasks do with OpenTelemetry; workers import this module, and OpenTelemetry only in a task."""

from __future__ import annotations

from typing import Any

from offloop import Environment


def seen() -> tuple[str, str, str | None]:
    """The trace and the span that are current, and a value of the baggage."""
    from opentelemetry import baggage, trace

    found = trace.get_current_span().get_span_context()
    user: Any = baggage.get_baggage("user")
    return f"{found.trace_id:032x}", f"{found.span_id:016x}", user


def seen_for(_: object) -> tuple[str, str, str | None]:
    """The same for an item of a map."""
    return seen()


async def aseen() -> tuple[str, str, str | None]:
    """The same after a turn of the event loop, in a task of its own."""
    import asyncio

    await asyncio.sleep(0)
    return await asyncio.create_task(asyncio.to_thread(seen))


def set_up(environment: Environment) -> None:
    """A bootstrap: the worker has a tracer provider of its own."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())


def make_child() -> tuple[str, str]:
    """The trace, and the parent, of a span that is made in a task."""
    from opentelemetry import trace

    with trace.get_tracer("test").start_as_current_span("child") as span:
        made: Any = span
        return f"{made.context.trace_id:032x}", f"{made.parent.span_id:016x}"
