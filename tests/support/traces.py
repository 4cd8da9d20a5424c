"""Made-up traces."""

from __future__ import annotations

from typing import Any

#: When they begin, in microseconds of the monotonic clock.
ORIGIN = 5e9


def begin(workers: int = 2) -> dict[str, Any]:
    """The first event."""
    args = {"offloop": "0.1.0", "time": 1.8e9, "max_workers": workers}
    return {"ph": "i", "cat": "worker", "name": "trace begins", "tid": 0, "ts": ORIGIN, "args": args}


def ends(at: float, **args: Any) -> dict[str, Any]:
    """The last event."""
    return {"ph": "i", "cat": "worker", "name": "trace ends", "tid": 0, "ts": ORIGIN + at, "args": args}


def lane(number: int) -> dict[str, Any]:
    """A worker's lane."""
    args = {"name": f"worker {number}", "worker": number, "slot": 0}
    return {"ph": "M", "cat": "worker", "name": "thread_name", "tid": number, "ts": 0, "args": args}


def task(number: int, at: float, took: float, *, worker: int = 1, **args: Any) -> dict[str, Any]:
    """A task that ran, by default well, after waiting 5 µs."""
    usual = {"id": number, "queued": ORIGIN + at - 5, "outcome": "succeeded", "sent": 60, "received": 50}
    name = args.pop("name", "work")
    return {
        "ph": "X", "cat": "task", "name": name, "tid": worker, "ts": ORIGIN + at, "dur": took,
        "args": {**usual, **args},
    }  # fmt: skip


def happening(kind: str, worker: int, at: float, took: float = 0, **args: Any) -> dict[str, Any]:
    """Something that became of a worker."""
    event = {"ph": "X" if took else "i", "cat": "worker", "name": kind, "tid": worker, "ts": ORIGIN + at}
    return {
        **event,
        **({"dur": took} if took else {}),
        "args": {"worker": worker, "pid": 4000 + worker, **args},
    }


def large(tasks: int, workers: int = 8) -> list[dict[str, Any]]:
    """Many tasks, some of which fail, on workers of which some crash."""
    events = [begin(workers)]
    living = list(range(1, workers + 1))
    events += [event for number in living for event in (lane(number), happening("starting", number, 1, 2000))]
    free = [2001.0] * workers
    for number in range(tasks):
        slot = number * 7 % workers
        worker, at, took = living[slot], free[slot] + 4, 300.0 + number * 7919 % 2500
        crashes = number % 9973 == 9972
        outcome = "crashed" if crashes else "failed" if number % 997 == 0 else "succeeded"
        named = {"task": f"resize('{number}.png')"} if took > 1000 else {}
        events.append(
            task(number, at, took, worker=worker, name=f"step{number % 5}", outcome=outcome, **named)
        )
        free[slot] = at + took
        if crashes:
            living[slot] = max(living) + 1
            events += [
                happening("crashed", worker, free[slot], code=-11),
                lane(living[slot]),
                happening("starting", living[slot], free[slot] + 100, 900, restart=True),
            ]
            free[slot] += 1000
    return [*events, ends(max(free), dropped=0)]
