"""True parallelism for asyncio: enqueue a task on a worker or a pool, await the result.

Only names live here, and each is loaded when it is first used (PEP 562): a
worker that imports a user's module which imports offloop stays light.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # known by name to type checkers: `typing` would cost a worker 8 ms

if sys.platform == "win32":
    raise ImportError("offloop needs a POSIX system (Linux or macOS); Windows is not supported")

# What type checkers and editors see: the same names as in _HOME below.
if TYPE_CHECKING:
    from offloop.adapters import (
        register_joblib_backend as register_joblib_backend,
        register_opentelemetry as register_opentelemetry,
    )
    from offloop.adapters.futures import Executor as Executor
    from offloop.channel import Channel as Channel
    from offloop.contexts import (
        AutoWorkerFactory as AutoWorkerFactory,
        DaskWorkerFactory as DaskWorkerFactory,
        InterpreterWorkerFactory as InterpreterWorkerFactory,
        ProcessWorkerFactory as ProcessWorkerFactory,
        RayWorkerFactory as RayWorkerFactory,
        ThreadWorkerFactory as ThreadWorkerFactory,
        WorkerFactory as WorkerFactory,
    )
    from offloop.defaults import (
        create_worker as create_worker,
        enqueue as enqueue,
        factory as factory,
        get_worker as get_worker,
        map as map,
        pool as pool,
        stream as stream,
        submit as submit,
        to_interpreter as to_interpreter,
        to_process as to_process,
    )
    from offloop.environment import Environment as Environment, LocalEnvironment as LocalEnvironment
    from offloop.errors import (
        ChannelClosed as ChannelClosed,
        OffloopError as OffloopError,
        QueueFull as QueueFull,
        RemoteTraceback as RemoteTraceback,
        SerializationError as SerializationError,
        StatusError as StatusError,
        TaskCancelled as TaskCancelled,
        TaskFailed as TaskFailed,
        TaskTimeout as TaskTimeout,
        WorkerCrashed as WorkerCrashed,
        WorkerError as WorkerError,
        WorkerKilled as WorkerKilled,
        WorkerStartError as WorkerStartError,
    )
    from offloop.execution import Execution as Execution
    from offloop.lease import LeasedWorker as LeasedWorker
    from offloop.live import Progress as Progress
    from offloop.observe.histogram import Histogram as Histogram
    from offloop.observe.report import write_report as write_report
    from offloop.observe.statistics import (
        RunningTask as RunningTask,
        Statistics as Statistics,
        WorkerStatistics as WorkerStatistics,
    )
    from offloop.protocols import (
        TaskChannel as TaskChannel,
        TaskContext as TaskContext,
        TaskLike as TaskLike,
    )
    from offloop.serving import serve_statistics as serve_statistics
    from offloop.streams import Stream as Stream
    from offloop.task import CallableTask as CallableTask, Task as Task, current_task as current_task
    from offloop.tracing import Trace as Trace
    from offloop.worker import Worker as Worker
    from offloop.workerpool import WorkerPool as WorkerPool

_HOME = {
    "errors": (
        "OffloopError StatusError QueueFull SerializationError ChannelClosed TaskFailed TaskTimeout "
        "WorkerError WorkerCrashed WorkerKilled WorkerStartError RemoteTraceback TaskCancelled"
    ),
    "task": "Task CallableTask current_task",
    "protocols": "TaskLike TaskContext TaskChannel",
    "environment": "Environment LocalEnvironment",
    "execution": "Execution",
    "live": "Progress",
    "channel": "Channel",
    "streams": "Stream",
    "tracing": "Trace",
    "serving": "serve_statistics",
    "worker": "Worker",
    "workerpool": "WorkerPool",
    "lease": "LeasedWorker",
    "contexts": (
        "WorkerFactory ProcessWorkerFactory ThreadWorkerFactory InterpreterWorkerFactory AutoWorkerFactory "
        "DaskWorkerFactory RayWorkerFactory"
    ),
    "adapters": "register_joblib_backend register_opentelemetry",
    "adapters.futures": "Executor",
    "observe.histogram": "Histogram",
    "observe.report": "write_report",
    "observe.statistics": "Statistics WorkerStatistics RunningTask",
    "defaults": ("pool enqueue submit map stream get_worker factory create_worker to_process to_interpreter"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names.split()}

__version__ = "0.1.0"

if not TYPE_CHECKING:  # else a type checker would take any name for one that exists
    __all__ = ["__version__", *sorted(_MODULE)]

    def __getattr__(name: str) -> object:
        module = _MODULE.get(name)
        if module is None:
            raise AttributeError(f"module 'offloop' has no attribute {name!r}")
        from importlib import import_module

        try:
            value: object = getattr(import_module(f"offloop.{module}"), name)
        except AttributeError as error:  # of a module of the user's that hides one of the standard library
            raise ImportError(f"offloop.{module} can't be imported: {error}") from error  # else it'd be lost
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
