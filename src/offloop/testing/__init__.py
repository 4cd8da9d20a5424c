"""For tests: of programs that use offloop, and of contexts that others write for it.

* `InlineWorkerFactory` makes workers that run their tasks in the caller.
* `worker_contract` is the suite of tests that every context must pass.
* `offloop.testing.plugin` is a plugin for pytest, with the fixture ``offloop_pool``.

Each name is loaded when it is first used: the plugin is loaded by every run of
pytest where offloop is installed, and must cost it nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from offloop.testing import worker_contract as worker_contract
    from offloop.testing.inline import InlineWorkerFactory as InlineWorkerFactory

__all__ = ["InlineWorkerFactory", "worker_contract"]

if not TYPE_CHECKING:  # else a type checker would take any name for one that exists

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "worker_contract":
            return import_module("offloop.testing.worker_contract")
        if name == "InlineWorkerFactory":
            return import_module("offloop.testing.inline").InlineWorkerFactory
        raise AttributeError(f"module 'offloop.testing' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
