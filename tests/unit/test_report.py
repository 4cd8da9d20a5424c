"""What a report is made of: a trace's events sorted, and a page in which no text is taken for HTML."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import pytest
from support import traces

from offloop.observe.reading import TraceError
from offloop.observe.report import as_script_data, report, write_report
from offloop.observe.timeline import MOST_LANES, Timeline


def test_times_count_from_the_begin_of_the_trace() -> None:
    timeline = Timeline(
        [traces.begin(), traces.lane(1), traces.task(7, 100, 20), traces.ends(300, dropped=4)]
    )
    (row,) = timeline.tasks
    assert row[:4] == [0, 100.0, 20, 5.0]
    assert [timeline.texts.all[at] for at in (row[4], row[5])] == ["work", "succeeded"]
    assert row[6:10] == [7, 1, 60, 50]
    assert timeline.footer == {"dropped": 4, "at": 300.0}


def test_a_trace_without_its_begin_counts_from_its_first_event() -> None:
    timeline = Timeline([traces.lane(1), traces.task(1, 100, 20), traces.task(2, 50, 20)])
    assert [row[1] for row in timeline.tasks] == [0.0, 50.0]


def test_tasks_that_never_ran_are_apart() -> None:
    cancelled = {**traces.task(3, 9, 0, outcome="cancelled"), "ph": "i"}
    timeline = Timeline([traces.begin(), cancelled])
    assert timeline.tasks == []
    assert [row[1] for row in timeline.unrun] == [9.0]
    assert timeline.lanes == []


def test_what_became_of_workers() -> None:
    timeline = Timeline(
        [
            traces.begin(),
            traces.lane(1),
            traces.happening("starting", 1, 0, 50),
            traces.happening("crashed", 1, 90, code=-11, out_of_memory=True),
            traces.lane(2),
            traces.happening("starting", 2, 95, 30, restart=True),
        ]
    )
    assert timeline.workers == [
        ["starting", 0, 0.0, 50, 1, "pid 4001"],
        ["crashed", 0, 90.0, 0, 1, "pid 4001, code -11, out of memory True"],
        ["restarted", 1, 95.0, 30, 2, "pid 4002"],
    ]
    assert timeline.lanes == ["worker 1", "worker 2"]


def test_many_workers_that_follow_each_other_share_lanes() -> None:
    count = MOST_LANES + 10
    events = [traces.begin()]
    for number in range(1, count + 1):
        events += [traces.lane(number), traces.task(number, number * 100, 90, worker=number)]
    events += [traces.lane(count + 1), traces.task(0, 150, count * 100, worker=count + 1)]
    timeline = Timeline(events)
    assert timeline.lanes == [f"workers 1 … {count}", f"worker {count + 1}"]
    assert {row[0] for row in timeline.tasks if row[6]} == {0}
    assert [row[7] for row in timeline.tasks if row[6]] == list(range(1, count + 1))


def test_a_trace_of_nothing_is_refused() -> None:
    with pytest.raises(TraceError, match="nothing was recorded"):
        Timeline([])


def test_events_of_others_do_not_disturb() -> None:
    foreign = [{"ph": "X"}, {"ph": "B", "ts": 1}, {"ph": "X", "ts": 2, "cat": "gpu", "name": "x"}]
    timeline = Timeline(
        [traces.begin(), *foreign, {"ph": "M", "name": "thread_name", "tid": 1}, traces.task(1, 5, 6)]
    )
    assert len(timeline.tasks) == 1


HOSTILE = "</script><script>alert(1)</script><!--&amp;\u2028\ud800%%DATA%%"


class Elements(html.parser.HTMLParser):
    """Counts a page's elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.scripts += tag == "script"


def test_no_text_is_taken_for_html() -> None:
    events = [traces.begin(), traces.lane(1), traces.task(1, 5, 6, name=HOSTILE, task=HOSTILE, error=HOSTILE)]
    page = report(Timeline(events).to_dict(), HOSTILE)
    assert Elements(page).scripts == 2
    assert "alert(1)</script>" not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data
    assert HOSTILE in json.loads(data[1])["texts"]


def test_data_survive_what_they_are_written_as() -> None:
    value = {"a": HOSTILE, "b": [1.5, None, True]}
    assert json.loads(as_script_data(value)) == value
    assert not set("<>&") & set(as_script_data(value))


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    trace, page = tmp_path / "a&b.json", tmp_path / "page.html"
    trace.write_text(json.dumps([traces.begin(), traces.lane(1), traces.task(1, 5, 6)]))
    write_report(trace, page)
    text = page.read_text("utf-8")
    assert "default-src 'none'" in text
    assert "<title>a&amp;b.json · offloop</title>" in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe)|\bsrc=|@import|\burl\(", text)
