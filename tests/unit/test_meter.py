"""Meters: what is counted of workers adds up, and who replaces whom."""

from __future__ import annotations

import gc

from offloop.errors import SerializationError, TaskTimeout, WorkerCrashed, WorkerKilled
from offloop.observe.meter import OUTCOMES, Meter, Meters, outcome_of


def ran(meter: Meter, *seconds: float) -> None:
    """Tasks that succeeded, each after waiting for a second."""
    for duration in seconds:
        meter.runs.append(duration)
        meter.waits.append(1.0)


def test_the_outcome_of_our_own_errors() -> None:
    assert outcome_of(TaskTimeout("")) == "timed_out"
    assert outcome_of(WorkerCrashed("")) == "crashed"
    assert outcome_of(WorkerKilled("")) == "killed"
    assert outcome_of(SerializationError("")) == "failed"


def test_what_ran_and_did_not_fail_has_succeeded() -> None:
    meter = Meter()
    ran(meter, 1.0, 2.0, 3.0)
    meter.errors, meter.unsuccessful["failed"] = 1, 1
    meter.unsuccessful["cancelled"] += 1  # it never ran
    wanted = dict.fromkeys(OUTCOMES, 0) | {"succeeded": 2, "failed": 1, "cancelled": 1}
    assert meter.outcomes == wanted
    meter.digest()
    assert meter.outcomes == wanted


def test_digesting_keeps_the_lists_that_others_append_to() -> None:
    meter = Meter()
    add = meter.runs.append
    add(1.0)
    meter.digest()
    add(2.0)
    assert meter.busy == 3.0
    meter.digest()
    assert (meter.run.count, meter.runs) == (2, [])


def test_the_total_is_that_of_the_living_and_the_past() -> None:
    meters = Meters()
    one, two = meters.of(1), meters.of(2)
    ran(one, 1.0)
    ran(two, 2.0, 4.0)
    one.sent, one.lost, one.crashes = 10, 0.5, 1
    meters.worker_ended(one, missed=True)
    for _ in range(2):  # taking it changes nothing
        total = meters.total([two])
        assert total.outcomes["succeeded"] == 3
        assert (total.busy, total.sent, total.crashes) == (7.5, 10, 1)
        assert (total.wait.count, total.run.max) == (3, 4.0)


def test_a_meter_is_kept_for_as_long_as_somebody_holds_it() -> None:
    meters = Meters()
    meter = meters.of(1)
    ran(meter, 1.0)
    assert meters.of(1) is meter
    del meter
    gc.collect()
    assert meters.of(1).runs == []


def restarts(meters: Meters, number: int, *, replaces: bool = False) -> int:
    meter = meters.of(number)
    meters.worker_starts(meter, replaces=replaces)
    meters.worker_ended(meter, missed=False)
    return meter.restarts


def test_a_worker_takes_the_place_of_one_that_is_missed() -> None:
    meters = Meters()
    assert restarts(meters, 1) == 0
    meters.worker_ended(meters.of(2), missed=True)
    assert restarts(meters, 3) == 1
    assert restarts(meters, 4) == 0


def test_a_replacement_leaves_the_place_of_one_that_is_missed_to_the_next() -> None:
    meters = Meters()
    meters.worker_ended(meters.of(1), missed=True)
    assert restarts(meters, 2, replaces=True) == 1
    assert restarts(meters, 3) == 1
    assert restarts(meters, 4) == 0
