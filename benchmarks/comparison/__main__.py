"""Puts every question to every library, and prints the table: ``scripts/bench comparison``."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from benchmarks.comparison.cell import ANSWER
from benchmarks.comparison.libraries import LIBRARIES
from benchmarks.comparison.questions import BOUND, QUESTIONS


def cell(name: str, question: str) -> str:
    """The answer of one library to one question; what it leaves running is ended."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "benchmarks.comparison.cell", name, question, folder]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(BOUND)
        except subprocess.TimeoutExpired:
            return "no, hangs"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return (Path(folder) / ANSWER).read_text()


def version(name: str) -> str:
    distribution = LIBRARIES[name].distribution
    return f" {metadata.version(distribution)}" if distribution else ""


def table(names: Sequence[str], questions: Iterable[str], at_once: int) -> str:
    """The whole table, in Markdown."""
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " :-: |" * len(names)]
    with ThreadPoolExecutor(at_once) as threads:
        for title in questions:
            answers = threads.map(lambda name, title=title: cell(name, QUESTIONS[title].__name__), names)
            lines.append(f"| {title} | {' | '.join(answers)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench comparison", description=__doc__)
    parser.add_argument("words", nargs="*", help="only questions that contain one of these words")
    parser.add_argument(
        "--library", action="append", choices=LIBRARIES, help="only this one; can be repeated"
    )
    parser.add_argument("--at-once", type=int, default=2, help="how many are asked at a time (default 2)")
    options = parser.parse_args()
    names = options.library or list(LIBRARIES)
    titles = [
        title for title in QUESTIONS if not options.words or any(word in title for word in options.words)
    ]
    found = table(names, titles, options.at_once)
    versions = ", ".join(f"{name}{version(name)}" for name in names)
    print(f"{found}\n\nCPython {platform.python_version()} on {platform.system()}; {versions}.")


if __name__ == "__main__":
    main()
