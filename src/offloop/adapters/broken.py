"""The errors of `offloop.Executor`: offloop's own, and at once those of `concurrent.futures`.

Code that was written for `concurrent.futures.ProcessPoolExecutor` catches what
that raises: `BrokenProcessPool` for a worker that died and for what cannot be
loaded, `pickle.PicklingError` for what cannot be pickled.  Here such an error
is of offloop's class as well, with all its facts, and the executor goes on.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError

from offloop import errors


class WorkerCrashed(errors.WorkerCrashed, BrokenProcessPool):
    """A worker died while it was running this task."""


class WorkerKilled(errors.WorkerKilled, BrokenProcessPool):
    """The workers were killed while this task was outstanding."""


class WorkerStartError(errors.WorkerStartError, BrokenProcessPool):
    """No worker could start."""


class CannotPickle(errors.SerializationError, PicklingError):
    """A task or a result could not be pickled."""


class CannotLoad(errors.SerializationError, BrokenProcessPool):
    """A task or a result could not be loaded at the other end."""


_TWINS: dict[type[BaseException], type[BaseException]] = {
    errors.WorkerCrashed: WorkerCrashed,
    errors.WorkerKilled: WorkerKilled,
    errors.WorkerStartError: WorkerStartError,
}


def as_raised_by_executor(error: BaseException) -> BaseException:
    """The error to set on an executor's future: ``error`` itself, or its twin with the same facts."""
    kind = _TWINS.get(type(error))
    if isinstance(error, errors.SerializationError) and type(error) is errors.SerializationError:
        kind = CannotLoad if error.loading else CannotPickle
    if kind is None:
        return error
    twin = kind.__new__(kind, *error.args)  # not its `__init__`, whose signature differs from `args`
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    twin.__cause__ = error.__cause__
    return twin.with_traceback(error.__traceback__)
