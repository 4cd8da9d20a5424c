"""Where the parent's microseconds go: `python -m benchmarks.where`.

Runs rounds of no-op tasks through two process workers with the steps of a
task's way wrapped by a timer, and prints what each costs per task.  A step's
figure includes what it calls; the timers themselves add about 0.1 us to each.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import Any

from benchmarks.work import noop
from offloop import WorkerPool
from offloop.contexts.inlet import Inlet
from offloop.contexts.process_link import ProcessLink
from offloop.contexts.sending import Sender
from offloop.dispatcher import Dispatcher
from offloop.scheduling.scheduler import Scheduler

TASKS, ROUNDS = 20_000, 15
STEPS: list[tuple[type, str, str]] = [
    (Dispatcher, "_turn", "a turn: what the scheduler decided is carried out"),
    (Scheduler, "plan", "  deciding"),
    (Sender, "send", "  pickling, framing, the write to the socket"),
    (ProcessLink, "_readable", "results: from the socket to the executions"),
    (Inlet, "receive", "  the read from the socket, frames to records"),
    (ProcessLink, "_deliver", "  records to results"),
]


def wrap(owner: type, name: str, seconds: dict[str, float]) -> None:
    """Have every call of a method timed."""
    method = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            seconds[name] += time.perf_counter() - start

    setattr(owner, name, timed)


async def main() -> None:
    """Measure and print."""
    seconds: dict[str, float] = defaultdict(float)
    for owner, name, _ in STEPS:
        wrap(owner, name, seconds)
    async with WorkerPool(2) as pool:
        await asyncio.gather(*(pool.submit(noop) for _ in range(TASKS)))
        seconds.clear()
        for _ in range(ROUNDS):
            start = time.perf_counter()
            executions = [pool.submit(noop) for _ in range(TASKS)]
            submitted = time.perf_counter()
            await asyncio.gather(*executions)
            seconds["submit"] += submitted - start
            seconds["all"] += time.perf_counter() - start
    print(f"{'us a task':>9}")
    for name, what in [("all", "everything, gather included"), ("submit", "submit")]:
        print(f"{seconds[name] / TASKS / ROUNDS * 1e6:9.2f}  {what}")
    for _, name, what in STEPS:
        print(f"{seconds[name] / TASKS / ROUNDS * 1e6:9.2f}  {what}")


if __name__ == "__main__":
    asyncio.run(main())
