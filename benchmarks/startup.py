"""P5: from a new pool to its first result, and to many workers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE
from time import monotonic, perf_counter

from benchmarks import bare, peers
from benchmarks.model import Case, Cell, Contender, Goal, Line, Measure, Results, Sample, Settings
from benchmarks.work import noop, stay

OURS = "offloop"
FORKSERVER = 'ProcessPoolExecutor("forkserver")'
#: Workers beyond the first whose start is timed.
FURTHER = 16
#: Seconds for which each occupies its worker, so that none takes two tasks.
OCCUPIED = 1.0


@asynccontextmanager
async def start(
    settings: Settings, *, opener: peers.Opener, imports: Callable[[], object]
) -> AsyncIterator[Measure]:
    """Time the first pool of a fresh process, and a second one.

    ``import``: importing the library, where asyncio is loaded already.
    ``first``: from making a pool of two workers to the result of its first
    no-op, without the import.  ``both``: the sum of the two.  ``life``: from
    making that pool until it is closed.  ``second``: as ``first``, for another
    pool after the first was closed.  ``further``: that
    pool has one worker; 17 tasks are submitted that occupy a worker each; the
    time until the last of them began, divided by 16.

    Args:
        settings: of the run.
        opener: opens the pool.
        imports: loads the library.
    """

    async def measure() -> Sample:
        began = perf_counter()
        imports()
        imported = perf_counter() - began
        began = perf_counter()
        async with opener(settings.workers) as call:
            await call(noop)
            first = perf_counter() - began
        life = perf_counter() - began
        began = perf_counter()
        async with opener(FURTHER + 1) as call:
            await call(noop)
            second = perf_counter() - began
            further = await _time_further(call)
        return {
            "import": imported,
            "first": first,
            "both": imported + first,
            "life": life,
            "second": second,
            "further": further,
        }

    yield measure


async def _time_further(call: peers.Call) -> float:
    began = monotonic()  # the same clock in every process of this machine
    stays: list[tuple[int, float]] = await asyncio.gather(*[call(stay, OCCUPIED) for _ in range(FURTHER + 1)])
    if len({pid for pid, _ in stays}) != FURTHER + 1:
        raise RuntimeError(f"{FURTHER + 1} workers should have run something, not {len(dict(stays))}")
    return (max(at for _, at in stays) - began) / FURTHER


@asynccontextmanager
async def start_script(settings: Settings, *, pool: str) -> AsyncIterator[Measure]:
    """Time ``first`` in a program of its own, whose no-op is defined in the script: see `program`."""
    script = Path(__file__).with_name("program.py")

    async def measure() -> Sample:
        command = [sys.executable, "-P", str(script), pool, str(settings.workers)]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        output, _ = await process.communicate()
        return {"first": float(output)}

    yield measure


def import_offloop() -> None:
    """What a program that uses a pool imports."""
    from offloop import WorkerPool  # noqa: F401


def import_nothing() -> None:
    """What the bare one needs is loaded with this module."""


def import_executor() -> None:
    """The same for the standard library's."""
    import multiprocessing.context  # noqa: F401
    from concurrent.futures import ProcessPoolExecutor  # noqa: F401


PEERS = {
    bare.NAME: partial(start, opener=bare.opened, imports=import_nothing),
    FORKSERVER: partial(start, opener=peers.forkserver_executor, imports=import_executor),
}


SCRIPTS = {OURS: "offloop", FORKSERVER: "forkserver"}


def as_script(name: str) -> str:
    """The name of a contender that is a script."""
    return f"{name} in a script"


def lines(_results: Results) -> Sequence[Line]:
    """Against the standard pool, with the start method that is as safe."""

    def reference(metric: str) -> tuple[str, Cell]:
        return FORKSERVER, (FORKSERVER, metric)

    return [
        Line("new pool to first result", (OURS, "first"), reference("first"), goal=Goal(0.4)),
        Line("the same of a bare template", (bare.NAME, "first"), reference("first")),
        Line(
            "the same, in a script of its own",
            (as_script(OURS), "first"),
            (FORKSERVER, (as_script(FORKSERVER), "first")),
            goal=Goal(0.4),
        ),
        Line(
            "each further worker",
            (OURS, "further"),
            others=dict([reference("further")]),
            goal=Goal(0.003, of_value=True),
        ),
        Line("new pool to first result, import included", (OURS, "both"), reference("both")),
        Line("new pool, one result, closed", (OURS, "life"), reference("life")),
        Line("second pool to first result, same process", (OURS, "second"), reference("second")),
    ]


CASE = Case(
    "P5",
    "new pool to first result, in fresh processes; each further worker",
    [
        Contender(OURS, partial(start, opener=peers.offloop, imports=import_offloop), fresh=True, warm=False),
        *(Contender(name, session, fresh=True, warm=False) for name, session in PEERS.items()),
        *(
            Contender(as_script(name), partial(start_script, pool=pool), warm=False)
            for name, pool in SCRIPTS.items()
        ),
    ],
    lines,
)
