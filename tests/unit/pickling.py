"""A running task whose worker pickles what it reports, without a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from offloop.child.keeping import Pickled
from offloop.errors import TaskCancelled
from offloop.task import provider
from offloop.testing.crossing import Crossing, new_definitions


class PicklingTask:
    """What a chunk asks of the task that runs it."""

    def __init__(self) -> None:
        self.cancellations: set[int] = set()
        self._crossing = Crossing(new_definitions())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the current task."""
        token = provider.set(lambda: self)  # type: ignore[arg-type, return-value]
        try:
            yield
        finally:
            provider.reset(token)

    def raise_if_cancelled(self) -> None:
        if self.cancellations:
            raise TaskCancelled

    def keeper(self) -> Pickled:
        return self._crossing.keeper()

    def arrived(self, outcome: Any) -> Any:
        """An outcome as the parent gets it."""
        return self.sent(outcome)()

    def sent(self, outcome: Any) -> Callable[[], Any]:
        """What loads an outcome, which has been pickled."""
        return self._crossing.result(outcome)
