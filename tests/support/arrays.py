"""Tasks on arrays that tests run in workers; importable there, so that they travel by reference."""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
from typing import Any

import numpy as np

from offloop import Environment, Task
from offloop.child.layout import Copy
from offloop.shm import segments
from support.signals import pass_gate, tell

_kept: list[Any] = []
_LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)


def numbers(size: int, start: int = 0) -> Any:
    """An array of that many bytes, no two neighbours equal."""
    return (np.arange(start, start + size, dtype=np.uint32) % 251).astype(np.uint8)


def echo(value: Any) -> Any:
    """Give the argument back."""
    return value


async def aecho(value: Any) -> Any:
    """The same from a coroutine."""
    return value


def fill(array: Any, value: int) -> Any:
    """Change the argument in place, and give it back."""
    array[:] = value
    return array


def keep(value: Any) -> Any:
    """Give the argument back, and hold on to it."""
    _kept.append(value)
    return value


def kept_value() -> Any:
    """What `keep` holds on to."""
    return _kept[-1]


def change_kept(value: int) -> None:
    """Change what `keep` holds on to."""
    _kept[-1][:] = value


def leave_room(size: int) -> int:
    """Have this process's memory grow by so many bytes at the most; returns the process id."""
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + size, resource.RLIM_INFINITY))
    return os.getpid()


def let_go() -> None:
    """Let go of what `keep` held on to."""
    _kept.clear()
    gc.collect()


def part(array: Any, start: int, stop: int) -> Any:
    """A view of the argument."""
    return array[start:stop]


def halves(array: Any) -> Any:
    """Two views of the argument."""
    middle = len(array) // 2
    return array[:middle], array[middle:]


def twice(array: Any) -> Any:
    """The argument twice: as itself, and as a view."""
    return array, array[:]


def view_of_view(array: Any) -> Any:
    """A view of a view of the argument, in another shape."""
    return array[1000:-1000].reshape(-1, 2)[10:]


def swap(left: Any, right: Any) -> Any:
    """Two arguments in the other order."""
    return right, left


def with_new(array: Any) -> Any:
    """The argument beside something new."""
    return array, array + 1


def total(array: Any) -> int:
    """The sum of an argument that is not kept."""
    return int(array.sum())


def keywords(*, left: Any, right: Any) -> Any:
    """The keyword arguments."""
    return {"left": left, "right": right}


def fail_with(array: Any) -> None:
    """Raise, with the argument in the traceback's frames."""
    raise ValueError(f"{array.nbytes} bytes")


def flags_of(array: Any) -> tuple[bool, bool, bool]:
    """Whether the argument is writable, in C order, in Fortran order."""
    flags = array.flags
    return bool(flags.writeable), bool(flags.c_contiguous), bool(flags.f_contiguous)


class Keep(Task[Any]):
    """Keeps an array in the environment, and gives it back."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def run(self, environment: Environment) -> Any:
        environment["array"] = self.array
        return self.array


class Change(Task[None]):
    """Changes the array in the environment."""

    def __init__(self, value: int) -> None:
        self.value = value

    def run(self, environment: Environment) -> None:
        environment["array"][:] = self.value


class Kept(Task[Any]):
    """Gives the array in the environment back."""

    def run(self, environment: Environment) -> Any:
        return environment["array"]


# --- for tests of faults ---------------------------------------------------------------------------


def hold_at_gate(path: str, array: Any) -> int:
    """Hold an argument while waiting at a gate."""
    pass_gate(path)
    return total(array)


def drop_on_thread_at_gate(path: str, array: Any) -> Any:
    """Give the argument back while a thread holds it until a gate lets it go."""
    held = [array]

    def hold() -> None:
        pass_gate(path)
        held.clear()

    threading.Thread(target=hold).start()
    return array


def fork_and_watch(path: str, array: Any) -> int:
    """Fork; the child exits at a gate with 0 if the argument is still as it was.  Returns its pid."""
    before = array.tobytes()
    child = os.fork()
    if child == 0:
        pass_gate(path)
        os._exit(0 if array.tobytes() == before else 1)
    return child


def wait_for(pid: int) -> int:
    """A child's exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def use_up_descriptors() -> None:
    """Leave this process no descriptor to open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + 50, _LIMITS[1]))
    try:
        while True:
            _kept.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass


def free_descriptors() -> None:
    """Close what `use_up_descriptors` opened."""
    while _kept:
        os.close(_kept.pop())
    resource.setrlimit(resource.RLIMIT_NOFILE, _LIMITS)


def segment_bytes() -> int:
    """How many bytes of segments this process has mapped."""
    found = 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "memfd:offloop-segment" in line:
                start, end = line.split(maxsplit=1)[0].split("-")
                found += int(end, 16) - int(start, 16)
    return found


class Refuse:
    """A bootstrap: a worker with no shared memory for its results."""

    def __call__(self, environment: Environment) -> None:
        def refuse(*args: Any) -> int:
            raise OSError(38, "no memfd here")

        os.memfd_create = refuse


class StopHalfway:
    """A bootstrap: copying into a segment gets halfway, says so, and never ends."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, environment: Environment) -> None:
        def advance(copy: Copy, size: int) -> bool:
            half = size // 2
            copy.target[:half] = copy.source[:half]
            tell(self.path, os.getpid())
            while True:
                signal.pause()

        Copy.advance = advance  # type: ignore[method-assign]


class SetIdle:
    """A bootstrap: the worker keeps free segments for that many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, environment: Environment) -> None:
        segments.IDLE = self.seconds
