"""The benchmark suite's own machinery: arguments, the table, comparisons, and the order of measuring."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are no part of the installed package

from benchmarks import command, report, suite, where  # noqa: E402
from benchmarks.model import Case, Contender, Goal, Line, Results, Row, Settings, fastest  # noqa: E402
from benchmarks.runner import run_case  # noqa: E402
from benchmarks.scheduling import list_schedule, mixed_durations  # noqa: E402
from benchmarks.timing import quantile  # noqa: E402

SETTINGS = Settings()


def results(**samples: list[float]) -> Results:
    """Results of contenders with one metric, ``t``."""
    return Results(SETTINGS, {name: [{"t": value} for value in values] for name, values in samples.items()})


# -- arguments


def test_without_names_everything_is_measured_and_names_may_be_capitals() -> None:
    assert set(suite.MODULES) - {"p10"} <= set(command.parse([]).names) <= set(suite.MODULES)
    assert command.parse(["P3", "p1"]).names == ["p3", "p1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["p1", "p99"], "there is no p99; there are p1, p2"),
        (["--rounds", "0"], "at least 1, not '0'"),
        (["--rounds", "few"], "at least 1, not 'few'"),
        (["--json", "/no/such/folder/run.json"], "there is no such folder"),
        (["--compare", "/no/such/run.json"], "No such file"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"rows": [{"case": "P1"}]}', '{"rows": 3}'])
def test_a_file_that_is_no_saved_run_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        command.parse(["--compare", str(file)])
    assert ended.value.code == 2
    assert f"--compare {file}" in capsys.readouterr().err


def test_list_names_every_benchmark_and_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == suite.usual()


@pytest.mark.parametrize("name", suite.MODULES)
def test_every_benchmark_can_make_its_rows_though_nothing_was_measured(name: str) -> None:
    case = suite.load(name)
    assert case.name.lower() == name
    rows = case.rows(Results(SETTINGS))
    assert {row.verdict for row in rows} == {"failed"}
    assert len({row.what for row in rows}) == len(rows)  # by which runs are compared


@pytest.mark.parametrize("name", suite.MODULES)
def test_a_quick_run_measures_all_that_goals_need(name: str) -> None:
    case = suite.load(name)
    measured = {contender.name for contender in case.chosen(Settings(quick=True))}
    for line in case.lines(Results(SETTINGS)):
        if line.goal is not None:
            assert line.ours[0] in measured
            assert line.reference is None or line.reference[1][0] in measured


@pytest.mark.parametrize(("owner", "name"), [step[:2] for step in where.STEPS])
def test_every_step_of_a_tasks_way_that_is_timed_is_there(owner: type, name: str) -> None:
    assert callable(getattr(owner, name, None))


# -- rows


@pytest.mark.parametrize(
    ("inverse", "goal", "ratio", "verdict"),
    [
        (False, Goal(0.5), 0.5, "pass"),
        (False, Goal(0.49), 0.5, "short"),
        (True, Goal(2.0, at_least=True), 2.0, "pass"),
        (True, Goal(2.1, at_least=True), 2.0, "short"),
        (False, Goal(1.0, of_value=True), 0.5, "pass"),
        (False, Goal(0.9, of_value=True), 0.5, "short"),
        (False, None, 0.5, ""),
    ],
)
def test_the_median_is_judged_against_the_references_median(
    inverse: bool, goal: Goal | None, ratio: float, verdict: str
) -> None:
    line = Line("it", ("we", "t"), ("they", ("they", "t")), goal=goal, inverse=inverse)
    row = line.row("P0", results(we=[1.0, 9.0, 0.5], they=[2.0, 1.0, 3.0]))
    assert (row.value, row.ratio, row.verdict) == (1.0, ratio, verdict)
    assert row.spread == ((1 / 9, 6.0) if inverse else (1 / 6, 9.0))  # round by round


def test_rates_are_shown_as_rates() -> None:
    line = Line("it", ("we", "t"), ("they", ("they", "t")), unit="/s", inverse=True)
    row = line.row("P0", results(we=[1e-6], they=[1e-3]))
    assert (row.value, row.others, row.ratio) == (pytest.approx(1e6), {"they": 1000.0}, pytest.approx(1000.0))


@pytest.mark.parametrize("missing", ["we", "they"])
def test_what_could_not_be_measured_is_failed_with_the_reason(missing: str) -> None:
    found = results(**{name: [1.0] for name in ("we", "they") if name != missing})
    found.errors[missing] = "it broke"
    row = Line("it", ("we", "t"), ("they", ("they", "t")), goal=Goal(1.0)).row("P0", found)
    assert (row.verdict, row.error) == ("failed", "it broke")
    assert "it broke" in report.render(row)


def test_the_fastest_is_found_among_those_that_were_measured() -> None:
    cells = {name: (name, "t") for name in ("slow", "fast", "absent")}
    assert fastest(results(slow=[3.0], fast=[2.0]), cells) == ("fast", ("fast", "t"))
    assert fastest(results(), cells) is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0], 0.99, 1.0),
        (list(range(1, 101)), 0.99, 99),
        ([1.0, 2.0], 0.5, 1.0),
    ],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


@pytest.mark.parametrize(
    ("durations", "workers", "makespan"),
    [([1, 1, 1], 2, 2), ([3, 1, 1, 1], 2, 3), ([1, 1, 3], 2, 4), ([], 2, 0), ([5, 4], 1, 9)],
)
def test_list_scheduling_gives_each_task_to_the_worker_that_is_free_first(
    durations: list[float], workers: int, makespan: float
) -> None:
    assert list_schedule(durations, workers) == makespan


def test_the_mix_is_always_the_same_and_as_documented() -> None:
    mix = mixed_durations(SETTINGS)
    assert mix == mixed_durations(SETTINGS)
    assert {seconds: mix.count(seconds) for seconds in mix} == {0.0002: 420, 0.002: 150, 0.1: 30}


# -- the table


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (7.0629e-6, "s", "7.06 µs"),
        (0.25, "s", "250 ms"),
        (2.5e-10, "s", "0.250 ns"),
        (0, "s", "0 ns"),
        (5845187.0, "/s", "5.85 M/s"),
        (416.0, "B", "416 B"),
        (4.7e6, "B", "4.70 MB"),
    ],
)
def test_quantities_have_three_digits_and_a_unit_that_suits(value: float, unit: str, text: str) -> None:
    assert report.quantity(value, unit) == text


ROW = Row("P1", "submits", "s", 8e-6, "task", 0.8, (0.75, 1.25), Goal(1.0), {"task": 1e-5, "executor": 1e-4})


def test_a_row_shows_ours_the_ratio_its_spread_the_goal_and_the_others() -> None:
    first, second = report.render(ROW).splitlines()
    assert first.split() == "P1 submits 8.00 µs 0.800 0.750 - 1.25 ≤ 1.00 pass".split()
    assert second.strip() == "against task 10.0 µs, executor 100 µs"


def test_a_row_about_a_value_has_its_goal_in_the_same_unit() -> None:
    row = Row("P7", "worker", "B", 4.7e6, spread=(4e6, 5e6), goal=Goal(2e6, of_value=True))
    assert report.render(row).split() == "P7 worker 4.70 MB 4.00MB - 5.00MB ≤ 2.00 MB short".split()


def test_the_summary_counts_verdicts() -> None:
    short = dataclasses.replace(ROW, ratio=1.1)
    assert report.summary([ROW, short, dataclasses.replace(ROW, goal=None)]) == "1 pass, 1 short"
    assert report.summary([dataclasses.replace(ROW, value=None)]) == "0 pass, 0 short, 1 failed"


def test_a_saved_run_is_compared_row_by_row(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(report.as_json(SETTINGS, [ROW], {"P1": results(we=[1.0])}))
    earlier = report.read_earlier(file)
    now = dataclasses.replace(ROW, value=4e-6, ratio=0.6)
    assert "x0.50 (ratio x0.75)" in report.render(now, earlier)
    assert report.render(dataclasses.replace(ROW, what="else"), earlier).splitlines()[0].endswith(" new")
    assert "x" not in report.render(ROW).splitlines()[0]
    assert json.loads(file.read_text())["samples"] == {"P1": {"we": [{"t": 1.0}]}}


# -- measuring

MODULE = """
import asyncio, os, sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from benchmarks.model import Case, Contender

@asynccontextmanager
async def session(settings, name, rounds=100):
    print("chatter on stdout")
    if name == "broken at once":
        import no_such_peer
    done = 0
    async def measure():
        nonlocal done
        done += 1
        with Path(os.environ["ORDER"]).open("a") as file:
            file.write(f"{name} {done}\\n")
        if done > rounds:
            sys.exit("it had enough")
        return {"done": done}
    yield measure

CASE = Case("P0", "made up", [
    Contender("a", partial(session, name="a")),
    Contender("fresh", partial(session, name="fresh"), fresh=True, warm=False),
    Contender("broken at once", partial(session, name="broken at once")),
    Contender("broken later", partial(session, name="broken later", rounds=2)),
    Contender("rare", partial(session, name="rare"), optional=True),
], lambda results: [])
"""


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``made_up`` with a benchmark in it; the file that its contenders write their turns to."""
    (tmp_path / "made_up.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ORDER", str(tmp_path / "order"))
    return tmp_path / "order"


def case_of(*names: str) -> Case:
    """A benchmark as the parent sees it, which never opens a session."""
    contenders = [
        Contender(name, session, fresh=name == "fresh", warm=name != "fresh", optional=name == "rare")
        for name in names
    ]
    return Case("P0", "made up", contenders, lambda results: [])


def session(settings: Settings) -> None:
    """Only the contender's own process runs sessions."""
    raise AssertionError


def test_contenders_take_turns_after_one_round_that_does_not_count(made_up: Path) -> None:
    told: list[str] = []
    settings = Settings(rounds=2, quick=True)
    found = run_case("made_up", case_of("a", "fresh", "rare"), settings, told.append)
    assert made_up.read_text().splitlines() == ["a 1", "a 2", "fresh 1", "a 3", "fresh 1"]
    assert found.samples == {"a": [{"done": 2}, {"done": 3}], "fresh": [{"done": 1}, {"done": 1}]}
    assert "round 2 of 2, fresh" in told


def test_a_contender_that_fails_drops_out_and_the_others_go_on(
    made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    case = case_of("broken at once", "broken later", "a")
    found = run_case("made_up", case, Settings(rounds=3), lambda text: None)
    assert found.samples == {"a": [{"done": 2}, {"done": 3}, {"done": 4}]}
    assert found.errors == {
        "broken at once": "ModuleNotFoundError: No module named 'no_such_peer'",
        "broken later": "it had enough",
    }


def test_a_python_that_is_missing_is_told_in_one_line() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "bench", "--list"],
        env={**os.environ, "PYTHON": "/no/python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "there is no program" in done.stderr
