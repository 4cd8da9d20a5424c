"""What every contract class stands on: how to make workers and pools of the context under test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from support import tasks

from offloop import WorkerPool

if TYPE_CHECKING:
    from support.gates import Gate

    from offloop import Execution, Worker, WorkerFactory


class Context:
    """A context under test; a concrete test file says how to make its factory and what it can do."""

    #: Whether tasks and results are pickled on their way (else they are shared).
    pickles: ClassVar[bool] = True

    #: Whether running code can be killed, or stopped in a blocking call (else it is abandoned).
    kills: ClassVar[bool] = True
    #: Whether the frames of a synchronous task can be seen from another thread.
    sees_frames: ClassVar[bool] = True

    #: Whether a worker can import NumPy (as other extension modules, it refuses interpreters).
    has_numpy: ClassVar[bool] = True

    def make_factory(self, **options: Any) -> WorkerFactory:
        """A factory of the context under test."""
        raise NotImplementedError

    @pytest.fixture
    def factory(self) -> WorkerFactory:
        """A factory with no options."""
        return self.make_factory()

    def worker(self, **options: Any) -> Worker:
        """A worker of its own; the options are the factory's."""
        return self.make_factory(**options).create()

    def pool(
        self, max_workers: int = 2, *, factory: WorkerFactory | None = None, **options: Any
    ) -> WorkerPool:
        """A pool of workers of this context; the options are the pool's."""
        return WorkerPool(max_workers, factory=factory or self.make_factory(), **options)


async def occupy(worker: Worker, gate: Gate, count: int = 1) -> list[Execution[Any]]:
    """Have that many tasks running, each stopped at the gate."""
    held = [worker.submit(tasks.pass_gate, gate.path, number) for number in range(count)]
    await gate.arrived(count)
    return held
