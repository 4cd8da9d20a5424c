"""docs/reliability.md names only tests that there are, and leaves no row of its table out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text("utf-8")
REFERENCE = re.compile(r"`([\w/]+\.py)::(\w+)(?:\[([^`]*)\])?`")
ROWS = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", PAGE, re.MULTILINE)


def test_every_row_is_there_once_and_in_order() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 56


@pytest.mark.parametrize(("number", "shown_by"), ROWS, ids=[number for number, _ in ROWS])
def test_the_tests_of_a_row_exist(number: str, shown_by: str) -> None:
    references = REFERENCE.findall(shown_by)
    assert references
    assert shown_by.count("::") == len(references), "one of them is not written as the others are"
    for file, test, case in references:
        source = (TESTS / file).read_text("utf-8")
        assert re.search(rf"^ *(async )?def {test}\(", source, re.MULTILINE), f"{file} has no {test}"
        assert not case or f'"{case}"' in source, f"{file} has no case {case!r}"
