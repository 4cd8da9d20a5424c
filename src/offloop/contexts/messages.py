"""What a parent and a worker on a cluster tell each other, as bytes: an engine carries nothing else."""

from __future__ import annotations

import pickle
import sys
from typing import Any, NamedTuple

import offloop

#: A worker that has nothing to say answers after this part of ``lost_after``, so that the parent hears of it.
#: It costs a call each time, from each of thousands of workers; and more than half would look like silence.
HOLD = 0.4


class Order(NamedTuple):
    """How a worker process is to be started; plain data.

    Attributes:
        slots: how many tasks it may run at a time.
        preload: modules to import once.
        env: environment variables to add.
        lost_after: seconds without a word from the parent after which it is ended.
        foreseen: modules that it will need, and that may be loaded before a fork.
    """

    slots: int
    preload: tuple[str, ...]
    env: dict[str, str]
    lost_after: float
    foreseen: tuple[str, ...] = ()


class Push(NamedTuple):
    """What a parent says, in one call.

    Attributes:
        control: frames for the control socket.
        data: frames for the data socket.
        hungry: streams, by id, and whether somebody waits for their next item.
    """

    control: bytes
    data: list[bytes]
    hungry: dict[int, bool]


class End(NamedTuple):
    """How a worker process ended, as seen on its own machine; see `offloop.link.Exit`."""

    code: int | None
    started: list[tuple[int, float]]
    problem: str | None
    peak_rss: int | None
    pid: int | None
    stack: str | None
    output: str
    out_of_memory: bool | None


class Reply(NamedTuple):
    """What a worker says, in the answer to one call.

    Attributes:
        number: counts the answers.
        control: what came from its control socket: said before ``data``.
        data: what came from its data socket.
        journal: frames that wait in its journal behind a long task; they come in ``data`` as well, later.
        running: what it runs: ``(task id, start)``, in its machine's monotonic seconds.
        end: how it ended, in the last answer.
        clock: its machine's monotonic seconds.
        held: seconds for which the question was held until there was something to say.
    """

    number: int
    control: bytes
    data: list[bytes]
    journal: bytes
    running: list[tuple[int, float]]
    end: End | None
    clock: float
    held: float


def pack(message: tuple[Any, ...]) -> bytes:
    """A message as bytes."""
    return pickle.dumps(tuple(message), 5)


def unpack(data: Any) -> Any:
    """The tuple that was packed; an engine may hand over any kind of buffer."""
    return pickle.loads(data)


def hello() -> dict[str, str]:
    """What both ends must have in common."""
    return {"Python": f"{sys.version_info.major}.{sys.version_info.minor}", "offloop": offloop.__version__}
