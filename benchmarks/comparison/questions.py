"""What is asked of each library: functions that find out by trying.

Each gets the library's name and a folder of its own, and returns whether it can,
or a short text.  It may take `BOUND` seconds: one that hangs is a no.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.comparison import tasks
from benchmarks.comparison.libraries import LIBRARIES, opened

Question = Callable[[str, Path], "bool | str"]

#: Seconds that a question may take.
BOUND = 25.0
#: How long a long input is.
TOTAL = 1_000_000
#: Seconds after which what should have happened has not.
SOON = 6.0


def _wait_for(condition: Callable[[], Any], seconds: float = SOON) -> bool:
    """Whether something comes true in time; these programs may look again and again."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def crash_is_told(name: str, _: Path) -> bool:
    """A call whose worker dies fails, rather than hang."""
    library = opened(name, 2)
    library.submit(tasks.answer).result(SOON)
    try:
        library.submit(tasks.die).result(SOON)
    except TimeoutError:
        return False
    except Exception:
        return True
    return False


def crash_is_survived(name: str, _: Path) -> bool:
    """After a worker died, the same pool takes and does new work."""
    library = opened(name, 2)
    library.submit(tasks.answer).result(SOON)
    with contextlib.suppress(Exception):
        library.submit(tasks.die).result(SOON)
    return library.submit(tasks.answer).result(SOON) == 42


def crash_spares_others(name: str, folder: Path) -> bool:
    """A call that runs in another worker at that moment ends well."""
    library = opened(name, 2)
    both = [library.submit(tasks.note_and_sleep, str(folder / f"warm{number}"), 0.5) for number in range(2)]
    _ = [each.result(SOON) for each in both]  # a death during start is another question
    other = library.submit(tasks.note_and_sleep, str(folder / "other"), SOON)
    _wait_for((folder / "other").exists)
    with contextlib.suppress(Exception):
        library.submit(tasks.die).result(SOON)
    return other.result(2 * SOON) == 42


def crash_says_why(name: str, _: Path) -> bool:
    """The error names the signal, or its number, that ended the worker."""
    library = opened(name, 2)
    try:
        library.submit(tasks.die).result(SOON)
    except TimeoutError:
        return False
    except Exception as error:
        said = f"{error} {vars(error)}"
        return any(word in said for word in ("SIGKILL", "-9", "signal 9"))
    return False


def cancel_frees_worker(name: str, folder: Path) -> bool:
    """After a running call was cancelled, its worker does the next one."""
    return _is_freed(name, folder, lambda future: future.cancel())


def timeout_frees_worker(name: str, folder: Path) -> bool:
    """After a call ran into the library's own time limit, its worker does the next one."""
    library = opened(name, 1)
    library.submit(tasks.answer).result(SOON)
    late = library.submit_limited(1.0, tasks.note_and_sleep, str(folder / "one"), 20.0)
    with contextlib.suppress(Exception):
        late.result(SOON)
    pid = int((folder / "one").read_text())
    return library.submit(tasks.answer).result(SOON) == 42 and _is_done(pid, folder / "one")


def _is_freed(name: str, folder: Path, end: Callable[[Any], Any]) -> bool:
    library = opened(name, 1)
    running = library.submit(tasks.note_and_sleep, str(folder / "one"), 20.0)
    if not _wait_for((folder / "one").exists):
        return False
    end(running)
    pid = int((folder / "one").read_text())
    return library.submit(tasks.answer).result(SOON) == 42 and _is_done(pid, folder / "one")


def _is_done(pid: int, path: Path) -> bool:
    """Whether what ran has ended: its process is gone, or it was interrupted."""
    return Path(f"{path}.tidied").exists() or not _lives(pid)


def cancel_runs_finally(name: str, folder: Path) -> bool:
    """`finally` blocks of a running function run when it is cancelled."""
    library = opened(name, 1)
    running = library.submit(tasks.note_and_sleep, str(folder / "one"), 20.0)
    _wait_for((folder / "one").exists)
    running.cancel()
    return _wait_for((folder / "one.tidied").exists)


def sends_lambdas(name: str, _: Path) -> bool:
    """A lambda that captures something can be sent."""
    captured = 42
    library = opened(name, 1)
    return library.submit(lambda: captured).result(SOON) == 42


def needs_no_guard(name: str, folder: Path) -> bool:
    """A program without ``if __name__ == "__main__"`` works, with a function of its own."""
    program = folder / "program.py"
    program.write_text(LIBRARIES[name].guardless)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=2 * SOON, check=False
    )
    return done.returncode == 0 and done.stdout.strip() == "42"


def is_async(name: str, _: Path) -> bool | str:
    """What a call gives can be awaited, without a wrapper."""
    if name == "trio-parallel":
        return "trio"
    if name == "anyio":
        return "both"
    return "asyncio" if LIBRARIES[name].is_async else False


def runs_coroutines(name: str, _: Path) -> bool:
    """A coroutine function can be called, and is awaited in the worker."""
    library = opened(name, 1)
    return library.submit(tasks.answer_later).result(SOON) == 42


def streams(name: str, _: Path) -> bool:
    """The items of one generator arrive while it runs."""
    library = opened(name, 1)
    return library.stream(tasks.numbers) == [0, 1, 2]


def maps_lazily(name: str, _: Path) -> bool:
    """A long input is not read whole before the first result is there."""
    pulled = 0

    def numbers() -> Iterator[int]:
        nonlocal pulled
        for number in range(TOTAL):
            pulled += 1
            yield number

    results = opened(name, 2).map(tasks.double, numbers())
    first = list(itertools.islice(results, 3))
    time.sleep(1.0)  # until what is read ahead has been read
    ahead = pulled
    time.sleep(1.0)
    print(f"{name}: {ahead} inputs were read for 3 results, and {pulled} a second later", file=sys.stderr)
    return first == [0, 2, 4] and ahead == pulled < TOTAL


def shares_arrays(name: str, _: Path) -> bool:
    """A large array is not copied through a pipe: in the worker it lies in a shared mapping."""
    import numpy as np

    library = opened(name, 1)
    return bool(library.submit(tasks.is_shared, np.ones(4_000_000)).result(SOON))


def sets_up_workers(name: str, _: Path) -> bool:
    """A function runs once in each worker before its first call."""
    library = opened(name, 1, initialize=True)
    return library.submit(tasks.state).result(SOON) == 42


def has_a_bar(name: str, _: Path) -> bool:
    """Its map has an option for progress."""
    maps: Any = LIBRARIES[name].maps
    return maps is not None and any("progress" in option for option in inspect.signature(maps()).parameters)


def forwards_logs(name: str, _: Path) -> bool:
    """What a call logs reaches the handlers of the parent."""
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logging.getLogger().addHandler(Keep())
    library = opened(name, 1)
    library.submit(tasks.log).result(SOON)
    return _wait_for(lambda: "from a worker" in records, 2.0)


def workers_end_with_parent(name: str, folder: Path) -> bool:
    """When the parent is killed, a worker that is busy ends within 3 seconds."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmarks.comparison.cell", name, "hold", str(folder)]
    ) as parent:
        noted = _wait_for(lambda: (folder / "one").exists() and (folder / "one").read_text(), 2 * SOON)
        parent.kill()
    if not noted:
        raise RuntimeError("no worker started")
    pid = int((folder / "one").read_text())
    ended = _wait_for(lambda: not _lives(pid), 3.0)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    return ended


def hold(name: str, folder: Path) -> bool:
    """Not a question: what `workers_end_with_parent` kills."""
    library = opened(name, 1)
    library.submit(tasks.note_and_sleep, str(folder / "one"), 20.0).result()
    return True


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


#: The rows of the table.
QUESTIONS: dict[str, Question] = {
    "a crash fails the call, at once": crash_is_told,
    "the pool survives a crash": crash_is_survived,
    "a crash spares other calls": crash_spares_others,
    "the error names the signal": crash_says_why,
    "cancelling frees the worker": cancel_frees_worker,
    "`finally` runs when cancelled": cancel_runs_finally,
    "a time limit frees the worker": timeout_frees_worker,
    "workers end with a killed parent": workers_end_with_parent,
    "lambdas and closures": sends_lambdas,
    "no guard for `__main__`": needs_no_guard,
    "awaitable": is_async,
    "async functions in workers": runs_coroutines,
    "items of a generator as they come": streams,
    "long inputs read as needed": maps_lazily,
    "large arrays by shared memory": shares_arrays,
    "set-up of each worker": sets_up_workers,
    "progress of a map": has_a_bar,
    "logs reach the parent": forwards_logs,
}
