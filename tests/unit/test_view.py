"""What a live view shows, and how it is drawn."""

from __future__ import annotations

import io
from collections import deque
from typing import Any

import pytest
from rich.console import Console

from offloop.cli.bar import LiveViews
from offloop.cli.watching import Watched
from offloop.observe.view import View, curve

NO_TIMES = {"count": 0, "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
TIMES = {"count": 9, "p50": 0.001, "p90": 0.002, "p99": 0.003, "max": 2.0}


def snapshot(**changes: Any) -> dict[str, Any]:
    usual = {
        "time": 10.0, "queued": 4, "running": 1, "done": 100, "succeeded": 100, "failed": 0, "cancelled": 0,
        "timed_out": 0, "crashed": 0, "killed": 0, "busy_fraction": 0.25, "busy_seconds": 5.0,
        "capacity_seconds": 20.0, "bytes_out": 1500, "bytes_in": 20, "wait": NO_TIMES, "run": TIMES,
        "started": 2, "restarts": 0, "crashes": 0, "worker_states": {"idle": 0, "busy": 1},
        "workers": [worker()],
    }  # fmt: skip
    return {**usual, **changes}


def worker(**changes: Any) -> dict[str, Any]:
    usual = {
        "worker_id": 1, "state": "busy", "pid": 77, "done": 60, "busy_seconds": 3.0, "rss": 12_000_000,
        "running": [{"task": "resize('a')", "seconds": 0.5}],
    }  # fmt: skip
    return {**usual, **changes}


def test_the_first_snapshot_has_no_rates() -> None:
    view = View("a pool")
    view.update(snapshot())
    lines = dict(view.lines)
    assert lines["tasks"] == "4 queued, 1 running, 100 succeeded"
    assert lines["rate"] == "-"
    assert lines["busy"].split()[0] == "25%"
    assert (lines["wait"], lines["run"]) == ("-", "p50 1.0 ms, p90 2.0 ms, p99 3.0 ms, max 2.0 s")
    assert lines["workers"] == "1 busy; 2 started, 0 restarts, 0 crashes"
    assert lines["bytes"] == "1.5 kB out, 20 B in"
    assert view.rows == [("1", "busy", "77", "60", "-", "-", "12.0 MB", "resize('a') for 500.0 ms")]


def test_rates_are_those_since_the_snapshot_before() -> None:
    view = View()
    view.update(snapshot())
    two = [{"task": "a", "seconds": 1.0}, {"task": "b", "seconds": 0.5}]
    later = snapshot(time=12.0, done=140, busy_seconds=8.0, capacity_seconds=24.0, workers=[
        worker(done=90, busy_seconds=4.0, running=two),
        worker(worker_id=2, state="idle", running=[], rss=None, pid=None),
    ])  # fmt: skip
    view.update(later, "another")
    lines = dict(view.lines)
    assert view.title == "another"
    assert lines["rate"].split() == ["20.0/s", "█"]
    assert lines["busy"].split()[0] == "75%"
    assert view.rows[0][4:6] == ("15.0", "50%")
    assert view.rows[0][7] == "a for 1.0 s and 1 more"
    assert view.rows[1] == ("2", "idle", "-", "60", "-", "-", "-", "")


def test_a_last_look_right_behind_another_one_has_the_rates_of_both() -> None:
    view = View()
    view.update(snapshot())
    view.update(snapshot(time=11.0, done=120))
    view.update(snapshot(time=11.001, done=120))
    assert dict(view.lines)["rate"].split()[0] == "20.0/s"


def test_counters_that_go_back_are_no_negative_rates() -> None:
    view = View()  # of a process id that is another process's by now
    view.update(snapshot())
    view.update(snapshot(time=11.0, done=0, busy_seconds=0.0, capacity_seconds=0.0, workers=[worker(done=0)]))
    assert dict(view.lines)["rate"].split()[0] == "0.0/s"
    assert view.rows[0][4:6] == ("0.0", "0%")


def test_a_curve_of_rates() -> None:
    assert curve(deque([0.0, 1.0, 2.0])) == " ▄█"
    assert curve(deque([0.0, 0.0])) == "  "
    assert curve(deque()) == ""


HOSTILE = "[bold red]a[/bold red]\n\x1b[2J\x07b"


def drawn(view: View, **options: Any) -> str:
    screen = io.StringIO()
    with LiveViews(lambda: [view], Console(file=screen, width=160, height=40, _environ={}, **options)):
        pass
    return screen.getvalue()


def test_no_text_is_taken_for_markup_or_a_command_to_the_terminal() -> None:
    view = View()
    view.update(snapshot(workers=[worker(running=[{"task": HOSTILE, "seconds": 1.0}])]), HOSTILE)
    text = drawn(view, force_terminal=True)
    assert "[bold red]a[/bold red]??[2J?b for 1.0 s" in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    view = View()
    view.update(snapshot())
    assert drawn(view) == ""


def test_a_process_with_several_pools_as_text() -> None:
    found = {"pid": 12, "pools": [
        {"id": 1, "name": "<WorkerPool>", "statistics": snapshot()},
        {"id": 2, "held_up": True},
        {"id": 3, "error": "StatusError: gone"},
    ]}  # fmt: skip
    watched = Watched(found)
    watched.update(found)
    first, pool, held_up, gone = watched.text().split("\n\n")
    assert first == "process 12"
    assert pool.splitlines()[-2:] == [
        "worker  state  pid  done  per s  busy   memory  current task",
        "     1  busy    77    60      -     -  12.0 MB  resize('a') for 500.0 ms",
    ]
    assert "held up" in held_up
    assert "StatusError: gone" in gone
    watched.update({"pid": 12, "pools": []})
    assert watched.text() == "process 12\n          no worker or pool is in use"


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_a_live_view_needs_an_interval(interval: float) -> None:
    from offloop import WorkerPool

    with pytest.raises(ValueError, match="interval"):
        WorkerPool(1).live(interval=interval)
