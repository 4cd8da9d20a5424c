"""How ``offloop map`` reads its inputs: texts, files, pipes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from offloop.cli.inputs import Inputs, read_pieces


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def items(*arguments: str) -> list[str]:
    async def read() -> list[str]:
        with Inputs(arguments) as inputs:
            return [item async for item in inputs]

    return asyncio.run(read())


def test_texts_and_lines_of_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"one\r\n\ntw\xc3\xb6\n\xff last")
    assert items("a", "@list", "@@b", "c@d") == ["a", "one", "", "twö", "\udcff last", "@b", "c@d"]


def test_lines_longer_than_one_read(tmp_path: Path) -> None:
    lines = ["x" * 100_000, "y" * 70_000, "z"]
    (tmp_path / "list").write_text("\n".join(lines))
    assert items("@list") == lines


def test_inputs_are_counted_where_that_is_possible(tmp_path: Path) -> None:
    (tmp_path / "three").write_text("1\n2\n3")
    (tmp_path / "two").write_text("1\n2\n")
    (tmp_path / "none").write_text("")
    with Inputs(["a", "@three", "@two", "@none"]) as inputs:
        assert inputs.count() == 6
    reader, writer = os.pipe()
    try:
        with Inputs(["a", f"@/dev/fd/{reader}"]) as inputs:
            assert inputs.count() is None
    finally:
        os.close(reader)
        os.close(writer)


def test_counting_may_come_late_and_leaves_out_what_is_blank(tmp_path: Path) -> None:
    blank = b" " * 100_000
    (tmp_path / "list").write_bytes(b"1\n" + blank + b"\n" + blank + b"2" + blank + b"\n \n3\n\n ")

    async def scenario() -> None:
        with Inputs(["a", " ", "@list"], skip_blank=True) as inputs:
            assert len([item async for item in inputs]) == inputs.count() == 4
        with Inputs(["a", " ", "@list"]) as inputs:
            assert len([item async for item in inputs]) == inputs.count() == 9

    asyncio.run(scenario())


def test_pieces_that_end_with_nul(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a\r\n\0\0" + b"x" * 70_000 + b"\0last")
    with Inputs(["@list"], b"\0") as inputs:

        async def read() -> list[str]:
            return [item async for item in inputs]

        assert asyncio.run(read()) == ["a\r\n", "", "x" * 70_000, "last"]
        assert inputs.count() == 4


def test_a_line_arrives_while_the_pipe_stays_open_and_the_loop_stays_free() -> None:
    async def scenario() -> None:
        reader, writer = os.pipe()
        lines = read_pieces(reader)
        os.write(writer, b"first\nsec")
        assert await anext(lines) == "first"
        second = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)  # would never return if reading blocked the loop
        assert not second.done()
        os.write(writer, b"ond\n")
        assert await second == "second"
        os.close(writer)
        assert [line async for line in lines] == []
        os.close(reader)

    asyncio.run(scenario())
