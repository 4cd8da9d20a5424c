"""The comparison with other libraries: how an answer is found, and that the page has all of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are no part of the installed package

from benchmarks.comparison.__main__ import cell  # noqa: E402
from benchmarks.comparison.libraries import LIBRARIES  # noqa: E402
from benchmarks.comparison.questions import QUESTIONS  # noqa: E402


@pytest.fixture(autouse=True)
def found_by_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell is a program of its own: it finds what this one finds."""
    monkeypatch.setenv("PYTHONPATH", ":".join([str(ROOT), *filter(None, sys.path)]))


@pytest.mark.parametrize(
    ("library", "question", "answer"),
    [
        ("offloop", "sends_lambdas", "yes"),
        ("offloop", "cancel_frees_worker", "yes"),
        ("offloop", "is_async", "asyncio"),
        ("ProcessPoolExecutor", "sends_lambdas", "no"),
        ("ProcessPoolExecutor", "timeout_frees_worker", "no"),
    ],
)
def test_a_cell_finds_out_by_trying(library: str, question: str, answer: str) -> None:
    assert cell(library, question) == answer


def test_the_page_has_every_question_and_every_library() -> None:
    page = (ROOT / "docs" / "comparison.md").read_text("utf-8")
    rows = [
        [part.strip() for part in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"
    ]
    header, _, *answers = rows
    assert header == ["", *LIBRARIES]
    assert [row[0] for row in answers] == list(QUESTIONS)
    assert all(
        re.fullmatch(r"yes|no|no, hangs|asyncio|trio|both", part) for row in answers for part in row[1:]
    )
