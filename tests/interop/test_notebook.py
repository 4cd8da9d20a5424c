"""The notebook of the examples runs, in a kernel, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.scripts import run_script

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "notebook.ipynb"

RUN = """
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read({path!r}, as_version=4)
NotebookClient(notebook, timeout=40).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        print(output.get("text") or output["data"]["text/plain"])
"""


def test_the_example_runs(tmp_path: Path) -> None:
    # In a program of its own: ZeroMQ's threads and sockets outlive what opened them.
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    done = run_script(RUN.format(path=str(EXAMPLE)), tmp_path)
    assert done.returncode == 0, done.stderr
    bar, *values = filter(None, done.stdout.splitlines())
    assert "20/20" in bar
    assert values == ["3.1", "[78, 89]", "WorkerCrashed SIGABRT", "16", "0"]
