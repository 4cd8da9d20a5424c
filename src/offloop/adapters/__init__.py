"""offloop's workers behind the interfaces of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import TracerProvider


def register_joblib_backend() -> None:
    """Make ``joblib.parallel_config(backend="offloop")`` work, and ``joblib.parallel_backend("offloop")``.

    Calling it again does nothing new.

    Raises:
        ImportError: joblib is not installed; it comes with ``offloop[joblib]``.
    """
    try:
        from offloop.adapters.joblib import register
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "joblib":
            raise
        raise ImportError("register_joblib_backend() needs joblib: pip install 'offloop[joblib]'") from error
    register()


def register_opentelemetry(tracer_provider: TracerProvider | None = None) -> Callable[[], None]:
    """Have OpenTelemetry get a span for each task of every worker and pool that is made from now on.

    A span begins when its task is enqueued, and its parent is the span that is current then.
    It ends with the task, and has recorded with what error.  In the worker it is the current
    span of the running task, so that spans made there become its children (a process worker exports
    them if its ``bootstrap`` sets OpenTelemetry up).  Baggage goes along.

    Args:
        tracer_provider: who makes the spans; by default OpenTelemetry's global provider.

    Returns:
        A function that ends it, for pools that there are and for those to come.

    Raises:
        ImportError: OpenTelemetry is not installed; it comes with ``offloop[otel]``.

    It costs what the provider's spans cost, which is many times what a small task does.
    Programs that do not call this pay nothing.
    """
    try:
        from offloop.adapters.spans import register
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        text = "register_opentelemetry() needs OpenTelemetry: pip install 'offloop[otel]'"
        raise ImportError(text) from error
    return register(tracer_provider)
