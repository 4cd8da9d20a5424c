"""A report in a real browser, without a window."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support import tasks, traces
from support.chromium import ask, find_chromium

from offloop import WorkerCrashed, WorkerPool
from offloop.observe.report import report, write_report
from offloop.observe.timeline import Timeline

HOSTILE = "</script><script>document.body.textContent = 'taken'</script><b>bold</b>"
PROBE = Path(__file__).with_name("report_probe.js")


@pytest.fixture(autouse=True)
def browser() -> str:
    return find_chromium()


def page_of(events: list[dict[str, Any]]) -> str:
    return report(Timeline(events).to_dict(), "a trace")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a user sees and does in the report of a small trace."""
    events = [
        traces.begin(),
        traces.lane(1),
        traces.happening("starting", 1, 0, 50),
        traces.task(1, 100, 400, task="slow('x')"),
        traces.task(2, 600, 200, outcome="failed", error="ValueError", task=HOSTILE),
        traces.happening("crashed", 1, 900, code=-11),
        traces.lane(2),
        traces.happening("starting", 2, 910, 40, restart=True),
        traces.task(3, 960, 40, worker=2, name="quick"),
        traces.ends(1000, dropped=0),
    ]
    return ask(page_of(events), PROBE.read_text("utf-8"), tmp_path_factory.mktemp("report"))


def test_no_text_is_taken_for_html(seen: Any) -> None:
    assert seen["hostile"] == HOSTILE
    assert seen["scripts"] == 0


def test_the_pointer_shows_what_is_below_it(seen: Any) -> None:
    tips = seen["tips"]
    assert tips["task"] == [
        "slow('x')",
        "succeeded",
        "task 1 on worker 1",
        "ran 400 µs from 100 µs",
        "waited 5 µs",
        "60 B there, 50 B back",
    ]
    assert tips["crash"] == ["worker 1 crashed", "at 900 µs", "pid 4001, code -11"]
    assert tips["restart"][0] == "worker 2 restarted"
    assert tips["start"][0] == "worker 1 starting"
    assert seen["hidden"] is True


def test_wheel_keys_and_clicks_zoom_and_move(seen: Any) -> None:
    start, end = seen["zoomed"]
    assert 0 < start < 300 < end < 1000
    assert seen["still"] == "slow('x')"
    assert seen["moved"] > start
    assert seen["all"] == [0, 1000]
    assert seen["gone"] == [0, 880]


def test_what_is_drawn_in_light_and_dark(seen: Any) -> None:
    for colours in seen["drawn"].values():
        assert len({colours[name] for name in ("task", "failed", "empty", "other")}) == 4
        assert colours["busy"] != colours["idle"]
    light, dark = seen["drawn"]["light"], seen["drawn"]["dark"]
    assert all(light[name] != dark[name] for name in light if name != "idle")  # where nothing is drawn


def test_a_real_trace(tmp_path: Path) -> None:
    async def main() -> None:
        async with WorkerPool(2) as pool, pool.trace(tmp_path / "trace.json"):
            await asyncio.gather(*(pool.submit(tasks.echo, number) for number in range(200)))
            with pytest.raises(WorkerCrashed):
                await pool.submit(tasks.exit_process, 3)
            await pool.submit(tasks.echo, HOSTILE)

    asyncio.run(main())
    write_report(tmp_path / "trace.json", tmp_path / "report.html")
    script = """
        const boxes = [...document.querySelectorAll("#numbers div")];
        return {
          numbers: boxes.map((box) => box.innerText.replace(/\\s+/g, " ")),
          wrong: document.querySelector("#wrong").innerText,
          about: document.querySelector("#about").textContent,
        };
    """
    found = ask((tmp_path / "report.html").read_text("utf-8"), script, tmp_path)
    assert found["numbers"][0] == "202 tasks"
    assert "1 crashed" in found["numbers"]
    assert "1 workers crashed" in found["numbers"]
    assert "exit_process(3)" in found["wrong"]
    assert "offloop" in found["about"]
    assert "cut off" not in found["about"]


def test_a_hundred_thousand_tasks(tmp_path: Path) -> None:
    script = """
        let calls = 0;
        const kind = CanvasRenderingContext2D.prototype, fill = kind.fillRect;
        kind.fillRect = function (...box) { calls++; return fill.apply(this, box); };
        const work = [];
        for (const part of [1, 0.1, 0.001, 0.00001]) {
          timeline.from = part === 1 ? begin : begin + (end - begin) * 0.4;
          timeline.to = timeline.from + (end - begin) * part;
          calls = 0;
          drawTimeline();
          drawOverview();
          work.push(calls);
        }
        const { ready } = document.documentElement.dataset;
        const rows = document.querySelectorAll("tr").length;
        return { work, lanes: lanes.length, width: timeline.width, ready, rows };
    """
    found = ask(page_of(traces.large(100_000)), script, tmp_path)
    assert found["ready"] == "100000"
    # What is drawn depends on the number of pixels, not on that of tasks.
    assert max(found["work"]) < 3 * (found["lanes"] + 1) * found["width"]
    assert min(found["work"]) > found["lanes"]
    assert found["rows"] < 500


def test_a_trace_that_was_cut_off_before_anything_ran(tmp_path: Path) -> None:
    script = """
        drawTimeline();
        drawOverview();
        return [document.querySelector("#about").textContent, document.querySelector("#runs").innerText];
    """
    about, runs = ask(page_of([traces.begin()]), script, tmp_path)
    assert "cut off" in about
    assert runs == "none"
