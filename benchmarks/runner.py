"""Runs the contenders of a benchmark in processes of their own, in turn, round by round.

Each has its own process, so that nobody's heap, threads or warm caches change
another's figures; A B C A B C, so that a machine which slows down slows all.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.model import Case, Contender, Results, Sample, Settings

ROOT = Path(__file__).resolve().parent.parent
#: Seconds that a contender may take for its set-up, or for one round.
PATIENCE = 60.0


class ContenderFailedError(Exception):
    """A contender could not be measured; the text says why."""


class ContenderProcess:
    """A contender's process, between its start and `close`.

    Args:
        module: full name of the module whose ``CASE`` has the contender.
        contender: its name.
        settings: handed on to it.

    Raises:
        ContenderFailedError: it did not get ready.
    """

    def __init__(self, module: str, contender: str, settings: Settings) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.child", module, contender, json.dumps(asdict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # so that a peer's stray workers can be found, and ended
        )
        self._unread = b""
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def measure(self) -> Sample:
        """One round.

        Raises:
            ContenderFailedError: it ended, or took longer than `PATIENCE`.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContenderFailedError(self._last_words()) from None
        return self._answer()

    def close(self) -> None:
        """Let it end; after a while, or if it left processes behind, end them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it is gone already
        self._wait_ended()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # as it should be
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _answer(self) -> Sample:
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._unread:
            if not select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise ContenderFailedError(f"no answer within {PATIENCE:g} s")
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise ContenderFailedError(self._last_words())
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        sample: Sample = json.loads(line)
        return sample

    def _wait_ended(self) -> None:
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass

    def _last_words(self) -> str:
        self._wait_ended()  # from Python 3.14 on, its stdout is closed before `sys.exit` writes its text
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a word"


def run_case(module: str, case: Case, settings: Settings, tell: Callable[[str], object]) -> Results:
    """Measure every contender of a benchmark, interleaved.

    A contender that fails drops out, and why is in the results' ``errors``.

    Args:
        module: full name of the module whose ``CASE`` it is.
        case: the benchmark.
        settings: how much to measure.
        tell: is given a short text now and then, on how far it is.
    """
    results = Results(settings)
    contenders = case.chosen(settings)
    with ExitStack() as stack:
        processes: dict[str, ContenderProcess] = {}
        for contender in contenders:
            if not contender.fresh:
                tell(f"setting up {contender.name}")
                with _noting(results, contender.name):
                    process = ContenderProcess(module, contender.name, settings)
                    processes[contender.name] = stack.enter_context(process)
        for number in range(settings.rounds):
            for contender in contenders:
                if contender.name in results.errors:
                    continue
                tell(f"round {number + 1} of {settings.rounds}, {contender.name}")
                with _noting(results, contender.name):
                    sample = _measure(module, contender, settings, processes)
                    results.samples.setdefault(contender.name, []).append(sample)
    return results


def _measure(
    module: str, contender: Contender, settings: Settings, processes: dict[str, ContenderProcess]
) -> Sample:
    if not contender.fresh:
        return processes[contender.name].measure()
    with ContenderProcess(module, contender.name, settings) as process:
        return process.measure()


@contextmanager
def _noting(results: Results, name: str) -> Iterator[None]:
    """Note a contender's failure in the results, and go on without it."""
    try:
        yield
    except ContenderFailedError as error:
        results.errors[name] = str(error)
        results.samples.pop(name, None)
