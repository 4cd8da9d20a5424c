"""Every program in examples/ runs, as a user would run it, and says what it should."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from support.scripts import script_environment

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

#: Seconds that an example may take.
BOUND = 55

#: The arguments that make each example short; one that is not here fails its test.
ARGUMENTS = {
    "async_pipeline.py": [],
    "cancel.py": [],
    "conversation.py": [],
    "crash_report.py": [],
    "executor.py": [],
    "hash_service.py": [],
    "joblib_backend.py": [],
    "logging_from_workers.py": [],
    "progress.py": [],
    "recycle.py": [],
    "request_id.py": [],
    "retry.py": [],
    "slow_apis.py": ["2000"],
    "sqlite_and_model.py": [],
    "stdlib_survey.py": ["--limit", "20", "--workers", "2", "--json"],
    "stream_lines.py": [],
    "thumbnails.py": [],
    "trace_and_report.py": [],
    "warm_cache.py": [],
    "watch_pool.py": ["--table"],
    "web_service.py": [],
    "where_is_it.py": [],
}


def run(name: str, folder: Path) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *ARGUMENTS[name]],
        cwd=folder,
        env=script_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


def test_async_pipeline(tmp_path: Path) -> None:
    # 200 chapters of 20 sentences with "time" twice; the others of the three are as frequent.
    lines = run("async_pipeline.py", tmp_path).splitlines()
    assert lines[0].split() == ["time", "8000"]
    assert [line.split()[1] for line in lines[1:]] == ["4000", "4000"]


def test_crash_report(tmp_path: Path) -> None:
    verdicts, report = run("crash_report.py", tmp_path).split("\n\n", 1)
    assert verdicts.splitlines() == [
        "good                 returned 499500",
        "raises               raised ZeroDivisionError: division by zero",
        "crashes              crashed with SIGSEGV",
        "hangs                took too long",
        "returns_a_lock       returned what can't be pickled",
        "needs_two_attempts   returned done at attempt 2",
        "good                 returned 499500",
    ]
    message, facts, *stack = report.splitlines()
    assert "was killed by SIGSEGV while running crashes(); peak memory" in message
    assert message.endswith("last on stderr: something is wrong with this image")
    assert facts.startswith("out of memory: False; peak:")
    assert stack[-1].endswith(" in crashes")


def test_cancel(tmp_path: Path) -> None:
    assert run("cancel.py", tmp_path).splitlines() == [
        "by_hand              the execution was cancelled",
        "by_asyncio_timeout   asyncio's TimeoutError",
        "by_task_group        the group failed with ValueError('something else failed'), and ended its work",
        "by_option            TaskTimeout: work('by timeout=') ran longer than 0.5 s",
        "tidied up: by hand, by asyncio.timeout, by a failing task group, by timeout=",
    ]


def test_recycle(tmp_path: Path) -> None:
    assert run("recycle.py", tmp_path).splitlines() == [
        "30 results, in order: True",
        "workers used: several, and never fewer than 2 at a time",
    ]


def test_retry(tmp_path: Path) -> None:
    assert run("retry.py", tmp_path).splitlines() == [
        "a.png        decoded at attempt 1",
        "unlucky.png  decoded at attempt 2",
        "poison.png   gave up after 3 attempts: SIGSEGV",
        "b.png        decoded at attempt 1",
        "c.png        decoded at attempt 1",
    ]


def test_slow_apis(tmp_path: Path) -> None:
    throughput, most = run("slow_apis.py", tmp_path).splitlines()
    assert throughput.startswith("2000 calls of 0.1 s in ")
    assert 250 < int(most.split()[0]) <= 1000, "more than one worker's, and no more than all workers'"


def test_sqlite_and_model(tmp_path: Path) -> None:
    assert run("sqlite_and_model.py", tmp_path).splitlines() == [
        "oslo: 0 warm",
        "rome: 2 warm",
        "lima: 3 warm",
        "30 questions, 3 connections, all closed: True",
        "at most one model a worker: True",
    ]


def test_trace_and_report(tmp_path: Path) -> None:
    failed, recorded, page = run("trace_and_report.py", tmp_path).splitlines()
    assert failed == "failed: TypeError, WorkerCrashed"
    assert int(recorded.split()[0]) > 47
    assert page == "open trace.html in a browser"
    assert {path.name for path in tmp_path.iterdir()} == {"trace.json", "trace.html"}


def test_executor(tmp_path: Path) -> None:
    lines = run("executor.py", tmp_path).splitlines()
    assert [int(line.split()[0]) for line in lines[:5]] == [25, 168, 1229, 9592, 78498]
    assert lines[5:] == [
        "89512 in all, while another task crashed its worker:",
        "WorkerCrashed: killed by SIGABRT while running abort()",
    ]


def test_joblib_backend(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    assert run("joblib_backend.py", tmp_path).splitlines() == [
        "1/2.000 1/3.000 1/4.000 1/5.000 1/6.000 1/7.000",
        "computed here: False",
    ]


def test_hash_service(tmp_path: Path) -> None:
    ping, hashes = run("hash_service.py", tmp_path).splitlines()
    assert ping == "ping: pong"
    assert hashes.startswith("8 different hashes, such as scrypt:")


def test_request_id(tmp_path: Path) -> None:
    lines = run("request_id.py", tmp_path).splitlines()
    assert lines[:4] == [
        "[request-1] received",
        "[request-1] 1000 bytes came to another process: True",
        f"[request-1] checksum {zlib.crc32(bytes(1000)):08x}",
        "[request-1] answered",
    ]
    assert [line.split("]")[0] for line in lines] == [
        *["[request-1"] * 4,
        *["[request-2"] * 4,
        *["[request-3"] * 4,
        *["[-"] * 2,
    ]


def test_logging_from_workers(tmp_path: Path) -> None:
    lines = run("logging_from_workers.py", tmp_path).splitlines()
    shown = [line for line in lines if ", task " in line]
    assert [line.split(" ", 1)[0] for line in shown] == ["INFO", "INFO", "WARNING", "ERROR", "INFO", "INFO"]
    assert shown[1] == "INFO    shop.oven   worker 1, task 1: baked plum"
    assert shown[2].endswith("UserWarning: plums are out of season")
    assert "ValueError: no recipe" in lines
    assert not any("heating" in line for line in lines)


def test_warm_cache(tmp_path: Path) -> None:
    *answers, summary = run("warm_cache.py", tmp_path).splitlines()
    assert summary == "12 questions, 3 books indexed"
    assert all(int(line.split()[-1]) >= 0 for line in answers)
    assert len(answers) == 12


def test_watch_pool(tmp_path: Path) -> None:
    lines = run("watch_pool.py", tmp_path).splitlines()
    titles = [line for line in lines if re.match(r"size|the rest|all", line)]
    assert titles == [
        "size 1000: 20 tasks, 20 succeeded, 0 failed, 0 crashed",
        "size 20000: 20 tasks, 20 succeeded, 0 failed, 0 crashed",
        "the rest: 3 tasks, 1 succeeded, 1 failed, 1 crashed",
        "all: 43 tasks, 41 succeeded, 1 failed, 1 crashed",
    ]
    assert "tasks    43: 0 queued, 0 sent, 0 running, 41 succeeded, 1 failed, 1 crashed" in lines


def test_stdlib_survey(tmp_path: Path) -> None:
    found = json.loads(run("stdlib_survey.py", tmp_path))  # it compares the pool's answers itself
    assert found["files"] == 20
    assert sum(worker["files"] for worker in found["workers"]) == 20


def test_conversation(tmp_path: Path) -> None:
    lines = [line.split("->")[-1].strip() for line in run("conversation.py", tmp_path).splitlines()]
    assert lines == ["6", "7", "42", "ZeroDivisionError: division by zero", "4 questions answered"]


def test_progress(tmp_path: Path) -> None:
    lines = run("progress.py", tmp_path).splitlines()
    assert lines[-2:] == ["small: 168 primes", "large: 550 primes"]
    for name, last in (("small", 168), ("large", 550)):
        shown = [line for line in lines[:-2] if line.startswith(f"{name}:")]
        assert shown[-1] == f"{name}: 100 %, {last} primes so far"


def test_stream_lines(tmp_path: Path) -> None:
    assert run("stream_lines.py", tmp_path).splitlines() == [
        "50 slow requests in all; the first three:",
        "line 1000: /item/1000 took 2.5 s",
        "line 2000: /item/2000 took 2.5 s",
        "line 3000: /item/3000 took 2.5 s",
    ]


def test_where_is_it(tmp_path: Path) -> None:
    lines = run("where_is_it.py", tmp_path).splitlines()
    assert lines[0] == "crawl: 3 pages, then nothing for half a second; it is here:"
    assert lines[-2].strip() == "return connection.recv(1024)"
    assert "in fetch" in lines[-3]
    assert lines[-1] == "cancelled"


def test_thumbnails(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    *pictures, broken, summary = run("thumbnails.py", tmp_path).splitlines()
    assert pictures[:3] == ["1.png: 80 x 160", "2.png: 160 x 160", "3.png: 160 x 107"]
    assert (broken, summary) == ("broken.png: UnidentifiedImageError", "8 thumbnails")


def test_web_service(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    lines = run("web_service.py", tmp_path).splitlines()
    pattern = re.compile(r"(/\w+)/\d+: \[([\d, ]+)\], (\d+) other requests answered meanwhile")
    found = {m[1]: (m[2].split(", "), int(m[3])) for m in map(pattern.fullmatch, lines) if m}
    statuses, answered = found["/primes"]
    assert set(statuses) == {"200", "503"}, "more requests than may queue are told so"
    assert answered > 10, "the service answers while it computes"
    blocked, answered_meanwhile = found["/blocking"]
    assert set(blocked) == {"200"}
    assert answered_meanwhile <= len(blocked), "at most one between two of them"
