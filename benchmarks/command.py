"""The command line: ``scripts/bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import report, suite
from benchmarks.model import Results, Row, Settings
from benchmarks.runner import run_case


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments, checked; a mistake ends the program with status 2 before anything is measured."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measures offloop against its peers, and prints one table."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="what to measure, such as p1 p3; default: all"
    )
    parser.add_argument("--list", action="store_true", help="list what there is, and measure nothing")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="measured rounds (default 5; quick: 3)")
    parser.add_argument("--quick", action="store_true", help="fewer tasks, only peers that goals name")
    parser.add_argument("--uvloop", action="store_true", help="run every contender on uvloop's event loop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the run, with every sample")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="add: now divided by that saved run")
    options = parser.parse_args(arguments)
    options.names = [name.lower() for name in options.names] or suite.usual()
    unknown = [name for name in options.names if name not in suite.MODULES]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(suite.MODULES)}")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: there is no such folder")
    options.earlier = _earlier(parser, options.compare)
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _earlier(parser: argparse.ArgumentParser, path: Path | None) -> report.Earlier | None:
    if path is None:
        return None
    try:
        return report.read_earlier(path)
    except (OSError, ValueError) as error:
        parser.error(f"--compare {path}: {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print the table.

    Returns:
        0, also where goals are missed; 1 if something could not be measured.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.list:
        for name in options.names:
            print(f"{name:<4} {suite.load(name).title}")
        return 0
    rounds = options.rounds or (3 if options.quick else 5)
    settings = Settings(rounds=rounds, quick=options.quick, uvloop=options.uvloop)
    rows, results = measure(options.names, settings, options.earlier)
    print(report.summary(rows))
    if options.json is not None:
        options.json.write_text(report.as_json(settings, rows, results))
    return 1 if any(row.verdict == "failed" for row in rows) else 0


def measure(
    names: Sequence[str], settings: Settings, earlier: report.Earlier | None
) -> tuple[list[Row], dict[str, Results]]:
    """Run the benchmarks with these names one after the other; print each one's rows as they come."""
    rows: list[Row] = []
    results: dict[str, Results] = {}
    print(report.header(settings), flush=True)
    for name in dict.fromkeys(names):
        case = suite.load(name)
        found = run_case(suite.module(name), case, settings, partial(_tell, case.name))
        _tell()
        results[case.name] = found
        made = case.rows(found)
        rows += made
        for row in made:
            print(report.render(row, earlier), flush=True)
        for contender, error in found.errors.items():
            print(f"{'':<7}{contender} was left out: {error}", flush=True)
    return rows, results


def _tell(*texts: str) -> None:
    """Show how far it is, on a line that the next text overwrites, if somebody is watching."""
    if sys.stderr.isatty():
        print("\r\x1b[K" + ": ".join(texts), end="", file=sys.stderr, flush=True)
