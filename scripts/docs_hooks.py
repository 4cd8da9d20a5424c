"""What the documentation site has that the pages in docs/ have not; MkDocs calls these functions.

The pages are written to be read on their own, next to the source.  So the site
gets pages for what they point to outside docs/ (the examples, the changelog),
and links that lead there.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

#: Links that leave docs/, and where on the site they lead.
_OUTSIDE = (
    (re.compile(r"\]\(\.\./examples/(\w+)\.py\)"), r"](examples.md#\1py)"),
    (re.compile(r"\]\(\.\./examples/(\w+)\.ipynb\)"), r"](examples.md#\1ipynb)"),
    (re.compile(r"\]\(\.\./examples/?\)"), "](examples.md)"),
    (re.compile(r"\]\(\.\./CHANGELOG\.md\)"), "](changelog.md)"),
    (re.compile(r"\]\(\.\./CONTRIBUTING\.md\)"), "](contributing.md)"),
)
#: A block that is saved as a file, with its comment for scripts/snippets.py.
_FILE = re.compile(r"^<!-- file: (\S+) -->\n```(\w+)$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of what stands elsewhere."""
    for name, text in (
        ("examples.md", _examples()),
        ("changelog.md", (ROOT / "CHANGELOG.md").read_text("utf-8")),
        ("contributing.md", (ROOT / "CONTRIBUTING.md").read_text("utf-8").replace("](docs/", "](")),
    ):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links that leave docs/ to the site's own pages; show the names of files."""
    for pattern, place in _OUTSIDE:
        markdown = pattern.sub(place, markdown)
    return _FILE.sub(r'```\2 title="\1"', markdown)


def _examples() -> str:
    """A page with every program of examples/: what it is about, then all of it."""
    parts = ["# Examples\n\nEach of these is run as a test."]
    for path in sorted((ROOT / "examples").iterdir()):
        if path.suffix == ".py":
            parts += [f"## {path.name}", *_program(path.read_text("utf-8"))]
        elif path.suffix == ".ipynb":
            parts += [f"## {path.name}", *_notebook(path.read_text("utf-8"))]
    return "\n\n".join(parts)


def _program(source: str) -> list[str]:
    """Its docstring, and the code behind that."""
    tree = ast.parse(source)
    code = "\n".join(source.splitlines()[tree.body[0].end_lineno :]).strip()
    code = code.removeprefix("from __future__ import annotations").strip()
    return [ast.get_docstring(tree) or "", f"```python\n{code}\n```"]


def _notebook(source: str) -> list[str]:
    """Its cells, without its title."""
    parts = []
    for cell in json.loads(source)["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else re.sub(r"^# .*", "", text))
    return parts
