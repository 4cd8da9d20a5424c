"""What README.md and docs/ show runs as it stands there, and where they point to is something."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import offloop
import offloop.testing

ROOT = Path(__file__).resolve().parent.parent.parent
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")

#: Exported for what is still to come.
NOT_YET: set[str] = set()


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
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "reference").glob("*.md"))]


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


@pytest.mark.parametrize("page", LINKING, ids=relative)
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


def references() -> list[str]:
    """What the reference pages show: a line ``::: offloop.Name`` for each."""
    folder = ROOT / "docs" / "reference"
    return [
        name
        for page in folder.glob("*.md")
        for name in re.findall(r"^::: offloop\.(\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]


def test_every_public_name_is_in_the_reference_once() -> None:
    public = [name for name in offloop.__all__ if not name.startswith("_")]
    public += [f"testing.{name}" for name in offloop.testing.__all__]
    # `map` makes a Map, which has no name of its own in offloop.
    assert sorted(references()) == sorted([*public, "mapping.Map"]), "see docs/reference/"


def test_every_page_is_in_the_sites_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]))
    made = {"examples.md", "changelog.md", "contributing.md"}  # by scripts/docs_hooks.py
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert listed == there | made


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


def test_a_snippet_is_run_where_what_it_needs_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "<!-- needs: {} -->\n```python\nraise SystemExit(3)\n```\n"
    missing = write_page(tmp_path, monkeypatch, text.format("json no_such_module"))
    assert not snippets.problems(missing)
    there = write_page(tmp_path, monkeypatch, text.format("json"))
    assert len(snippets.problems(there)) == 1


def test_commands_use_the_files_of_their_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "<!-- file: a.txt -->\n```text\nhello\n```\n\n```console\n$ cat a.txt\nhello\n$ echo 1\n2\n```\n"
    [problem] = snippets.problems(write_page(tmp_path, monkeypatch, text))
    assert problem.startswith("page.md:6: echo 1 should print\n2\n")
