"""The suite of tests that every context must pass, for authors of contexts.

Derive a test class from `WorkerContract`, name the factory, and say what the
context can't do.  Then run pytest, with or without a plugin for async tests::

    from offloop.testing import worker_contract

    class TestMyContext(worker_contract.WorkerContract):
        factory = MyWorkerFactory
        can_be_killed = False

It covers the essential promises that offloop makes of all contexts:

* `LifeContract`: kinds of tasks and their results, order, priority, overlap;
  shutdown, kill, and the ends of both.
* `FailureContract`: what a task raises, in whichever form it can arrive;
  what can't be pickled, or is shared.
* `CancelContract`: cancellation and timeouts, before the start and while
  running; what `Link.recall`, `Link.cancel` and `Link.running` are for.
* `CrashContract`: dead workers, retries, and the tasks behind them.
* `EnvironmentContract`: a worker's own store, expiry, bootstrap.
* `PoolContract`: several workers, leases, keys, broadcasts, recycling, maps.

After each test nothing of a worker may be left: no open pool, no process that
is a link's ``pid``, no thread named as those of offloop are.

Workers must see this machine's file system, through which tests and tasks talk
to each other, and be able to import `offloop.testing`.  What concerns a single
context (a process's environment variables, shared memory, crash reports) is
not covered, nor is speed.

Each name is loaded when it is first used: workers import `tasks` of this
package, and none of the rest.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from offloop.testing.worker_contract.base import (
        Contract as Contract,
        needs as needs,
        promise as promise,
    )
    from offloop.testing.worker_contract.failing import (
        CancelContract as CancelContract,
        CrashContract as CrashContract,
        FailureContract as FailureContract,
    )
    from offloop.testing.worker_contract.whole import WorkerContract as WorkerContract
    from offloop.testing.worker_contract.working import (
        EnvironmentContract as EnvironmentContract,
        LifeContract as LifeContract,
        PoolContract as PoolContract,
    )

__all__ = [
    "CancelContract",
    "Contract",
    "CrashContract",
    "EnvironmentContract",
    "FailureContract",
    "LifeContract",
    "PoolContract",
    "WorkerContract",
    "needs",
    "promise",
]

#: The modules that these are in.
_MODULES = ("base", "failing", "working", "whole")

if not TYPE_CHECKING:  # else a type checker would take any name for one that exists

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in __all__:
            for module in _MODULES:
                found = vars(import_module(f"{__name__}.{module}")).get(name)
                if found is not None:
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
