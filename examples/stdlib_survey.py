"""Analyse every Python file of the running interpreter's own standard library.

The work is real and CPU-bound: parse each file and walk its syntax tree,
counting lines, functions and branches.  It is done twice, in this process and
on a `WorkerPool`, and the two answers are compared.

Everything here lives in ``__main__``, and there is no ``if __name__`` guard
to satisfy: the functions travel to the workers by value.

Run it with ``scripts/demo``, or ``python examples/stdlib_survey.py --help``.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import os
import platform
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import offloop

Report = dict[str, Any]
Step = Callable[[int], None]

#: Each of these adds one path through the function it stands in.
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


# The analysis: plain functions, run in a worker and here alike.


def analyse(path: str) -> Report:
    """Count what is in one file; also tell which process did it, and how long it took."""
    start = time.perf_counter()
    report: Report = {"path": path, "lines": 0, "functions": [], "problem": None}
    try:
        source = Path(path).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the test suite is full of dubious escapes, on purpose
            tree = ast.parse(source, path)
        report["lines"] = len(source.splitlines())
        report["functions"] = [(size, name, line) for name, line, size in complexities(tree)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        report["problem"] = f"{type(error).__name__}: {error.args[0] if error.args else error}"
    report["pid"] = os.getpid()
    report["seconds"] = time.perf_counter() - start
    return report


def complexities(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Name, line and cyclomatic complexity (McCabe 1976) of each function."""
    counts: dict[tuple[str, int], int] = {}
    pending: list[tuple[ast.AST, str, tuple[str, int] | None]] = [(tree, "", None)]
    while pending:
        node, scope, owner = pending.pop()
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            scope = f"{scope}.{node.name}" if scope else node.name
            owner = (scope, node.lineno) if isinstance(node, FUNCTIONS) else None
            if owner:
                counts[owner] = 1
        elif owner:
            counts[owner] += branches(node)
        pending.extend((child, scope, owner) for child in ast.iter_child_nodes(node))
    return ((name, line, size) for (name, line), size in counts.items())


def branches(node: ast.AST) -> int:
    """How many paths this node adds: `a and b and c` adds two, a comprehension one and one for each `if`."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, BRANCHES))


# The two ways to run it.


def in_one_process(paths: list[str], progress: Step) -> list[Report]:
    """One file after the other, here."""
    reports: list[Report] = []
    for path in paths:
        reports.append(analyse(path))
        progress(len(reports))
    return reports


async def on_a_pool(paths: list[str], workers: int | None, progress: Step) -> list[Report]:
    """All files on a pool; this is all that it takes."""
    reports: list[Report] = []
    async with offloop.WorkerPool(workers) as pool:
        async for report in pool.map(analyse, paths, ordered=False):
            reports.append(report)
            progress(len(reports))
    return sorted(reports, key=lambda report: report["path"])


# Putting the answers together.


def standard_library(limit: int | None) -> list[str]:
    """The Python files of the standard library, without what was installed on top of it."""
    root = Path(sysconfig.get_path("stdlib"))
    files = (
        path
        for path in sorted(root.rglob("*.py"))
        if not {"site-packages", "dist-packages"} & set(path.parts)
    )
    return sorted(map(str, islice(files, limit)))


def same_answers(left: list[Report], right: list[Report]) -> bool:
    """Whether both found the same; who did it and how long it took may differ."""
    return [_findings(report) for report in left] == [_findings(report) for report in right]


def _findings(report: Report) -> tuple[Any, ...]:
    return tuple(report[key] for key in ("path", "lines", "functions", "problem"))


def summarise(reports: list[Report], alone_s: float, pool_s: float) -> dict[str, Any]:
    """Everything worth telling, as plain data."""
    functions = [
        (size, name, report["path"], line) for report in reports for size, name, line in report["functions"]
    ]
    by_worker: dict[int, list[float]] = {}
    for report in reports:
        by_worker.setdefault(report["pid"], []).append(report["seconds"])
    return {
        "files": len(reports),
        "lines": sum(report["lines"] for report in reports),
        "functions": len(functions),
        "mean_complexity": sum(entry[0] for entry in functions) / max(len(functions), 1),
        "most_complex": [
            {"complexity": size, "function": name, "path": path, "line": line}
            for size, name, path, line in sorted(functions, key=lambda entry: (-entry[0], entry[2]))[:10]
        ],
        "unparsable": [{"path": r["path"], "problem": r["problem"]} for r in reports if r["problem"]],
        "one_process_seconds": alone_s,
        "pool_seconds": pool_s,
        "speed_up": alone_s / pool_s,
        "workers": [
            {"pid": pid, "files": len(times), "busy_seconds": sum(times)}
            for pid, times in sorted(by_worker.items())
        ],
    }


def survey(paths: list[str], workers: int | None, progress: Callable[[str], Step]) -> dict[str, Any]:
    """Run both ways, one after the other, and compare.

    Raises:
        SystemExit: the two disagree.
    """
    for path in paths:
        Path(path).read_bytes()  # so that neither way finds the disk cold
    start = time.perf_counter()
    alone = in_one_process(paths, progress("In one process"))
    alone_s = time.perf_counter() - start
    start = time.perf_counter()
    pooled = asyncio.run(on_a_pool(paths, workers, progress("On a worker pool")))
    pool_s = time.perf_counter() - start
    if not same_answers(alone, pooled):
        raise SystemExit("the pool's answers differ from those of one process")
    return summarise(pooled, alone_s, pool_s)


# Showing it.


def show(found: dict[str, Any]) -> None:
    """Print the summary as tables."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 110
    root = sysconfig.get_path("stdlib") + os.sep
    console.print(totals_table(found), "", complex_table(found, root), "")
    if found["unparsable"]:
        console.print(unparsable_table(found, root), "")
    console.print(workers_table(found), "")
    console.print(
        f"One process took [bold]{found['one_process_seconds']:.2f} s[/], "
        f"the pool of {len(found['workers'])} (its start included) [bold]{found['pool_seconds']:.2f} s[/]: "
        f"[bold green]{found['speed_up']:.2f} times as fast[/], with the same answers."
    )


def table(title: str, *columns: str) -> Any:
    """A plain table; a column whose name begins with ``#`` holds numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in columns:
        made.add_column(
            name.lstrip("#"), justify="right" if name.startswith("#") else "left", overflow="fold"
        )
    return made


def totals_table(found: dict[str, Any]) -> Any:
    """How much there is."""
    made = table(
        f"The standard library of Python {platform.python_version()}",
        "#files", "#lines", "#functions", "#mean complexity", "#not parsable",
    )  # fmt: skip
    made.add_row(
        f"{found['files']:,}",
        f"{found['lines']:,}",
        f"{found['functions']:,}",
        f"{found['mean_complexity']:.1f}",
        f"{len(found['unparsable']):,}",
    )
    return made


def complex_table(found: dict[str, Any], root: str) -> Any:
    """The functions with the most paths through them."""
    made = table("The most complex functions", "#complexity", "function", "where")
    for entry in found["most_complex"]:
        made.add_row(
            str(entry["complexity"]), entry["function"], f"{entry['path'].removeprefix(root)}:{entry['line']}"
        )
    return made


def unparsable_table(found: dict[str, Any], root: str) -> Any:
    """The files that are no Python of this version, and why."""
    made = table(
        "Files that could not be parsed (nearly all are meant to be broken: they test the parser)",
        "file",
        "why",
    )
    for entry in found["unparsable"]:
        made.add_row(entry["path"].removeprefix(root), entry["problem"])
    return made


def workers_table(found: dict[str, Any]) -> Any:
    """What each worker process did."""
    made = table("What each worker did", "worker (pid)", "#files", "#busy seconds", "#of the pool's time")
    for worker in found["workers"]:
        share = worker["busy_seconds"] / found["pool_seconds"]
        made.add_row(
            str(worker["pid"]), f"{worker['files']:,}", f"{worker['busy_seconds']:.2f}", f"{share:.0%}"
        )
    return made


def with_bars(paths: list[str], workers: int | None) -> dict[str, Any]:
    """The survey under progress bars (on stderr; none where that is no terminal)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def bar(title: str) -> Step:
            task = bars.add_task(title, total=len(paths))
            return lambda done: bars.update(task, completed=done)

        return survey(paths, workers, bar)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N files")
    parser.add_argument("--workers", type=int, metavar="N", help="default: one per usable CPU")
    parser.add_argument("--json", action="store_true", help="print plain data instead of tables")
    options = parser.parse_args()
    paths = standard_library(options.limit)
    if options.json:
        print(json.dumps(survey(paths, options.workers, lambda title: lambda done: None), indent=2))
        return
    print(f"Analysing {len(paths):,} Python files twice: in one process, then on a pool.\n", flush=True)
    show(with_bars(paths, options.workers))


main()
