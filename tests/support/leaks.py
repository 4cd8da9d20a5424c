"""What a test may not leave behind: processes, threads, descriptors, shared memory, blocked signals."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.bounds import wait_exit

#: Inherited by every process that a test starts: so even an orphan, which is nobody's child, is found.
MARKER_NAME = "OFFLOOP_TEST_RUN"
MARKER = uuid.uuid4().hex

#: Seconds that processes and threads get to go away by themselves after a test.
GRACE = 5.0

#: Where a `TaskCancelled` hits a thread between `open` and `try`, in `support.signals`, as no code can
#: prevent that uses descriptors, the pipe of a gate stays open.
GATE_PIPES = (".arrivals", ".tokens")

#: Processes that were there before: none of ours.
_others: set[str] = set()

_DEV_SHM = Path("/dev/shm")
#: Of ours only: other programs on the machine come and go meanwhile.
_SHM_PREFIXES = ("offloop",)


@dataclass(frozen=True)
class Snapshot:
    """What existed at one moment."""

    processes: frozenset[psutil.Process]
    threads: frozenset[threading.Thread]
    descriptors: Counter[str]
    mappings: Counter[str]
    shared_files: frozenset[str]
    blocked: frozenset[int]

    @classmethod
    def take(cls) -> Snapshot:
        """Look at everything now."""
        return cls(
            frozenset(_processes()),
            frozenset(threading.enumerate()),
            _descriptors(),
            _memfd_mappings(),
            frozenset(_shared_files()),
            frozenset(_blocked()),
        )

    def leaks(self, grace: float | None = None) -> list[str]:
        """Describe what has come since and does not go away; processes among it are killed."""
        gc.collect()
        deadline = time.monotonic() + (GRACE if grace is None else grace)
        found = self._leaked_processes(deadline)
        found += self._leaked_threads(deadline)
        found += [
            f"descriptor of {target} (x{n})"
            for target, n in (_descriptors() - self.descriptors).items()
            if not target.endswith(GATE_PIPES)
        ]
        found += [f"mapping of {name} (x{n})" for name, n in (_memfd_mappings() - self.mappings).items()]
        found += [f"shared memory {name}" for name in _shared_files() - self.shared_files]
        if blocked := _blocked() - self.blocked:
            found.append(f"blocked signals {blocked}")
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        return found

    def _leaked_processes(self, deadline: float) -> list[str]:
        leaked = []
        for process in _processes() - self.processes:
            text = f"process {_describe_process(process)}"
            if not wait_exit(process.pid, max(0.0, deadline - time.monotonic())):
                leaked.append(f"{text}, still running")
            elif _is_our_zombie(process):
                leaked.append(f"{text}, never waited for")
            else:
                continue
            _end(process)
        return leaked

    def _leaked_threads(self, deadline: float) -> list[str]:
        started = [thread for thread in threading.enumerate() if thread not in self.threads]
        for thread in started:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [f"thread {thread.name}" for thread in started if thread.is_alive()]


def mark_children() -> None:
    """Have every process started from here on carry the marker."""
    os.environ[MARKER_NAME] = MARKER
    if os.path.isdir("/proc/self"):
        _others.update(name for name in os.listdir("/proc") if name.isdigit())


def end_children() -> None:
    """Kill every process started from here; for a test that hangs on one of them."""
    for process in _processes():
        _end(process)


def _processes() -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for pid in _children() | _marked():
        try:
            found.add(psutil.Process(pid))
        except psutil.Error:  # it has gone
            continue
    return found


def _children() -> set[int]:
    """Our own children, zombies too, which have no environment to be known by."""
    try:
        lists = [
            Path(f"/proc/self/task/{task}/children").read_text() for task in os.listdir("/proc/self/task")
        ]
    except OSError:
        return {process.pid for process in psutil.Process().children(recursive=True)}
    return {int(pid) for text in lists for pid in text.split()}


def _marked() -> set[int]:
    """Whoever inherited the marker, orphans too."""
    wanted = f"{MARKER_NAME}={MARKER}".encode()
    found: set[int] = set()
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if not name.isdigit() or name in _others or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb", buffering=0) as file:
                if wanted in file.read():
                    found.add(int(name))
        except OSError:  # it has gone, or it is another user's
            continue
    return found


def _describe_process(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({' '.join(process.cmdline()[:4])[:200] or process.name()})"
    except psutil.Error:
        return str(process.pid)


def _is_our_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.ppid() == os.getpid()
    except psutil.Error:
        return False


def _end(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(timeout=GRACE)
    except psutil.Error:
        pass


def _descriptors() -> Counter[str]:
    targets: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            targets[os.readlink(f"/proc/self/fd/{name}")] += 1
        except OSError:  # the descriptor that listed the others
            continue
    return targets


def _memfd_mappings() -> Counter[str]:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return Counter()
    lines = maps.read_text().splitlines()
    return Counter(line.split(maxsplit=5)[5] for line in lines if "/memfd:" in line)


def _blocked() -> set[int]:
    """The signals that this thread blocks."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _shared_files() -> set[str]:
    if not _DEV_SHM.is_dir():
        return set()
    return {name for name in os.listdir(_DEV_SHM) if name.startswith(_SHM_PREFIXES)}
