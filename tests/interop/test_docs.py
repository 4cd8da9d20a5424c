"""What README.md and docs/ show runs as it stands there, and where they point to is something."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import offloop

ROOT = Path(__file__).resolve().parent.parent.parent
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")

#: Exported for what is still to come: channels.
NOT_YET = {"ChannelClosed"}


def _load_snippets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("snippets", ROOT / "scripts" / "snippets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["snippets"] = module  # NamedTuple looks its module up
    spec.loader.exec_module(module)
    return module


snippets = _load_snippets()
PAGES: list[Path] = snippets.pages()


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_the_snippets_of_a_page_do_what_it_says(page: Path) -> None:
    found = snippets.problems(page)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def test_every_public_name_is_documented() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    words = set(re.findall(r"\w+", text))
    public = {name for name in offloop.__all__ if not name.startswith("_")}
    assert public - words - NOT_YET == set()


def write_page(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    monkeypatch.setattr(snippets, "ROOT", folder)
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_a_snippet_that_prints_something_else_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write_page(tmp_path, monkeypatch, "\n```python\nprint(1)\n```\n\n```text\n2\n```\n")
    [problem] = snippets.problems(page)
    assert problem.startswith("page.md:2: the program should print\n2\nand prints\n1\n")


def test_a_snippet_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_page(tmp_path, monkeypatch, "```python\nraise SystemExit(3)\n```\n")
    [problem] = snippets.problems(page)
    assert problem.startswith("page.md:1: exited with 3:")


def test_commands_use_the_files_of_their_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "<!-- file: a.txt -->\n```text\nhello\n```\n\n```console\n$ cat a.txt\nhello\n$ echo 1\n2\n```\n"
    [problem] = snippets.problems(write_page(tmp_path, monkeypatch, text))
    assert problem.startswith("page.md:6: echo 1 should print\n2\n")
