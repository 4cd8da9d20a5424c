"""What a worker process loads at its start, and how long that takes.

A worker starts as ``python -S -P`` importing `offloop.child.template`, and
whatever that loads delays every first task.  This lists it, most expensive
first, and fails if anything breaks the rule: of offloop only the modules that
may load in a worker, nothing from third parties, and no standard-library
module that is known to be heavy.

Usage: python scripts/worker_imports.py [MODULE]
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
TEMPLATE = "offloop.child.template"

#: The groups of offloop that DESIGN allows in a worker.
OURS = frozenset(
    "offloop.child offloop.environment offloop.errors offloop.shm offloop.task offloop.wire".split()
)

#: Standard-library modules that cost milliseconds, or pull in others that do.
HEAVY = frozenset(
    "argparse ast asyncio concurrent contextlib ctypes dataclasses decimal difflib dis email enum "
    "fractions hashlib heapq http importlib.metadata importlib.resources inspect json linecache "
    "logging multiprocessing pathlib pickle pickletools random re selectors shutil signal socket ssl "
    "statistics string subprocess tempfile textwrap threading tokenize traceback typing unittest "
    "urllib uuid weakref xml zipfile".split()
)

RUNS = 7
IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", re.MULTILINE)
REPORT = """\
import sys
before = set(sys.modules)
sys.path.insert(0, {path!r})
import {module}
print(*sorted(set(sys.modules) - before))
"""


def interpreter(*options: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in an interpreter that is started as a worker's is."""
    command = [sys.executable, "-S", "-P", *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        raise SystemExit("\n".join(["a worker could not start:", *lines]))
    return done


def loaded(module: str) -> dict[str, float]:
    """Each module that importing ``module`` loads, with its own milliseconds."""
    done = interpreter("-X", "importtime", code=REPORT.format(path=str(SOURCE), module=module))
    cost = {name: int(microseconds) / 1000 for microseconds, name in IMPORT_TIME.findall(done.stderr)}
    return {name: cost.get(name, 0.0) for name in done.stdout.split()}


def milliseconds(code: str) -> float:
    """The least of several runs, from start to exit."""
    times: list[float] = []
    for _ in range(RUNS):
        start = time.perf_counter()
        interpreter(code=code)
        times.append((time.perf_counter() - start) * 1000)
    return min(times)


def _within(name: str, groups: frozenset[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in groups for end in range(1, len(parts) + 1))


def breach(name: str) -> str | None:
    """Why ``name`` should not load in a worker, or None if it may."""
    top = name.partition(".")[0]
    if top == "offloop":
        return None if name == top or _within(name, OURS) else "this part of offloop belongs to the parent"
    if top not in sys.stdlib_module_names:
        return "not of the standard library"
    return "heavy" if _within(name, HEAVY) else None


def main(module: str = TEMPLATE) -> int:
    """Print the report; 1 if a module breaks the rule, else 0."""
    modules = loaded(module)
    whole = milliseconds(REPORT.format(path=str(SOURCE), module=module))
    bare = milliseconds("pass")
    print(
        f"{module}: {len(modules)} modules; "
        f"{whole:.1f} ms from start to exit, a bare interpreter {bare:.1f} ms"
    )
    for name, cost in sorted(modules.items(), key=lambda entry: -entry[1])[:10]:
        print(f"  {cost:6.2f} ms  {name}")
    broken = {name: reason for name in sorted(modules) if (reason := breach(name))}
    for name, reason in broken.items():
        print(f"must not load in a worker: {name} ({reason})")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
