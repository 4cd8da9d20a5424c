"""What a worker does before its first task: make its environment, run the bootstrap."""

from __future__ import annotations

import os

from offloop.environment import Environment, LocalEnvironment

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def make_environment(factory: Callable[[], object] | None) -> Environment:
    """The worker's environment, from its class or factory."""
    environment = factory() if factory is not None else LocalEnvironment()
    if not isinstance(environment, Environment):
        raise TypeError(f"environment= made a {type(environment).__name__}, which is no offloop.Environment")
    return environment


def run_bootstrap(
    bootstrap: Callable[[Environment], Any] | str | os.PathLike[str] | None, environment: Environment
) -> None:
    """Run the bootstrap: a callable given the environment, or a path to a Python file."""
    if bootstrap is None:
        return
    if callable(bootstrap):
        result: object = bootstrap(environment)
        if hasattr(type(result), "__await__"):
            import asyncio

            awaitable: Any = result

            async def finish() -> None:
                await awaitable

            asyncio.run(finish())
        return
    import runpy

    runpy.run_path(os.fspath(bootstrap), init_globals={"environment": environment}, run_name="__bootstrap__")
