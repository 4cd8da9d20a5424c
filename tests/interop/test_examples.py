"""Every program in examples/ runs, as a user would run it, and says what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.scripts import script_environment

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

#: Seconds that an example may take.
BOUND = 55

#: The arguments that make each example short; one that is not here fails its test.
ARGUMENTS = {
    "async_pipeline.py": [],
    "crash_report.py": [],
    "hash_service.py": [],
    "stdlib_survey.py": ["--limit", "20", "--workers", "2", "--json"],
    "warm_cache.py": [],
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
    assert run("crash_report.py", tmp_path).splitlines() == [
        "good                 returned 499500",
        "raises               raised ZeroDivisionError: division by zero",
        "crashes              crashed with SIGSEGV",
        "hangs                took too long",
        "returns_a_lock       returned what can't be pickled",
        "needs_two_attempts   returned done at attempt 2",
        "good                 returned 499500",
    ]


def test_hash_service(tmp_path: Path) -> None:
    ping, hashes = run("hash_service.py", tmp_path).splitlines()
    assert ping == "ping: pong"
    assert hashes.startswith("8 different hashes, such as scrypt:")


def test_warm_cache(tmp_path: Path) -> None:
    *answers, summary = run("warm_cache.py", tmp_path).splitlines()
    assert summary == "12 questions, 3 books indexed"
    assert all(int(line.split()[-1]) >= 0 for line in answers)
    assert len(answers) == 12


def test_stdlib_survey(tmp_path: Path) -> None:
    found = json.loads(run("stdlib_survey.py", tmp_path))  # it compares the pool's answers itself
    assert found["files"] == 20
    assert sum(worker["files"] for worker in found["workers"]) == 20
