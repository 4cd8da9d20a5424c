"""Carry out ``offloop map``: inputs into a pool, results and failures out of it."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from typing import TYPE_CHECKING, Any

from offloop.cli.arguments import UsageError
from offloop.cli.calls import call_of
from offloop.cli.clusters import cluster_factory, cluster_size
from offloop.cli.commands.map import Options
from offloop.cli.failures import failure_text, one_line
from offloop.cli.inputs import Inputs
from offloop.cli.jsontext import to_json
from offloop.cli.outcomes import Outcomes
from offloop.cli.records import Done, record, value_of
from offloop.cli.results import LineFile, OutputFile, standard_output
from offloop.cli.screens import Screen, inputs_of, screen_for
from offloop.cli.stopping import Stopped, stoppable
from offloop.cli.target import carry_file, find_function
from offloop.cli.tracing import traced
from offloop.errors import WorkerStartError

if TYPE_CHECKING:
    from offloop.worker import WorkerFactory
    from offloop.workerpool import WorkerPool

#: Seconds between two reports to the screen.
_FRAME = 0.1
#: A longer command, in characters, is not repeated.
_LONGEST_COMMAND = 400


def _new_pool(max_workers: int | None, factory: str | WorkerFactory) -> WorkerPool:
    from offloop.workerpool import WorkerPool

    try:
        return WorkerPool(max_workers, factory=factory)
    except (ValueError, ImportError, RuntimeError) as error:  # a context that is not to be had here
        raise UsageError(str(error)) from error


async def _where(options: Options) -> tuple[int | None, str | WorkerFactory]:
    """How many workers there are to be, and what makes them."""
    if options.cluster is None:
        return options.workers, options.context
    try:
        factory = cluster_factory(options.cluster)
        workers = options.workers or (await cluster_size(factory)).cpus
    except Exception as error:
        raise UsageError(f"{options.cluster}: {one_line(error)}") from error
    if not workers:
        raise UsageError(f"{options.cluster} has no CPU for a worker; give --workers N to wait for some")
    return workers, factory


def run_map(options: Options, make_pool: Callable[..., WorkerPool] = _new_pool) -> int:
    """Run the command.

    Args:
        options: the parsed command line.
        make_pool: called with ``max_workers`` and ``factory`` instead of
            `offloop.WorkerPool`.

    Returns:
        0 if every input went well, 1 if one failed, 128 and the number of a
        signal that ended it.

    Raises:
        UsageError: the function or an input file is not there, no worker can
            start, or the output cannot be written.
        BrokenPipeError: stdout was closed; the pool has been shut down.
    """
    with ExitStack() as stack:
        stdout = None if options.output is not None else stack.enter_context(standard_output())
        call = call_of(find_function(options.target), is_json=options.jsonl)
        if options.cluster is not None:
            carry_file(options.target)
        separator = b"\0" if options.null else b"\n"
        inputs = stack.enter_context(Inputs(options.inputs, separator, skip_blank=options.jsonl))
        if inputs.asks_terminal:
            _say("reading inputs from the terminal, one a line; Ctrl-D ends them")
            options.progress = options.progress or False  # a bar would be in the way
        if stdout is not None:
            return _Run(options, inputs, stdout, Done()).carry_out(call, make_pool)
        output = stack.enter_context(OutputFile(options.output or "", resume=options.resume))
        return _Run(options, inputs, output.lines, output.done).carry_out(call, make_pool)


class _FirstFailure(Exception):
    """An input has failed, and --fail-fast was given."""


class _Run:
    """One run: how far it has come, and where its results and failures go.

    Args:
        options: the parsed command line.
        inputs: the inputs.
        lines: where results go.
        before: the inputs whose results are there already.
    """

    def __init__(self, options: Options, inputs: Inputs, lines: LineFile, before: Done) -> None:
        self._options = options
        self._inputs = inputs
        self._lines = lines
        self._before = before
        self._done = self._failed = 0
        self._due: asyncio.TimerHandle | None = None  # calls for the next report to the screen

    def carry_out(self, call: Callable[[str], Any], make_pool: Callable[..., WorkerPool]) -> int:
        """Run the call over the inputs; see `run_map`."""
        options = self._options
        if self._before:
            _say(f"{options.output} has the results of {inputs_of(len(self._before))} already")
        try:
            with screen_for(options.target, self._inputs.count, options.progress) as screen:
                asyncio.run(self._map(call, make_pool, screen))
        except Stopped as stopped:
            self._tell_standing(str(stopped))
            return stopped.status
        except _FirstFailure:
            self._tell_standing("stopped at the first failure")
        else:
            self._tell_strangers()
        return int(bool(self._failed))

    async def _map(
        self, call: Callable[[str], Any], make_pool: Callable[..., WorkerPool], screen: Screen
    ) -> None:
        options = self._options
        workers, factory = await _where(options)
        pool = make_pool(max_workers=workers, factory=factory)
        with stoppable(pool.kill, self._lines.wait_no_more):
            async with traced(pool, options.trace), pool:
                outcomes = Outcomes(
                    pool,
                    call,
                    self._remaining(),
                    ordered=not options.unordered,
                    timeout=options.timeout,
                    retries=options.retries,
                )
                async with aclosing(aiter(outcomes)) as pairs:
                    async for text, outcome in pairs:
                        self._settle(text, outcome, screen)
                        self._report_soon(screen)
            self._report(screen)

    async def _remaining(self) -> AsyncGenerator[str, None]:
        """The inputs whose results are not there yet."""
        async for text in self._inputs:
            if self._before and self._before.take(text, is_json=self._options.jsonl):
                self._done += 1
            else:
                yield text

    def _settle(self, text: str, outcome: object, screen: Screen) -> None:
        if isinstance(outcome, WorkerStartError):  # no input is to blame, and none will fare better
            raise UsageError(one_line(outcome))
        if not isinstance(outcome, BaseException):
            screen.put(self._line(text, outcome), self._lines)
            self._done += 1
            return
        self._failed += 1
        screen.tell(failure_text(text, outcome, with_traceback=self._options.traceback))
        if self._options.fail_fast:
            raise _FirstFailure

    def _line(self, text: str, result: object) -> str:
        options = self._options
        if options.output is None and not options.with_input:
            return to_json(result)
        return record(value_of(text, is_json=options.jsonl), to_json(result))

    def _report_soon(self, screen: Screen) -> None:
        """Have the screen show how far it is, but not for each of a hundred thousand inputs a second."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_FRAME, self._report, screen)

    def _report(self, screen: Screen) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        screen(self._done + self._failed)

    def _tell_standing(self, why: str) -> None:
        done = f"{inputs_of(self._done, self._inputs.count())} done"
        _say(f"{why}: {done}, {self._failed:,} failed" if self._failed else f"{why}: {done}")
        _say(_how_to_go_on(self._options))

    def _tell_strangers(self) -> None:
        """Say so if the file has results of other inputs: perhaps they are the wrong ones."""
        if self._before:
            others = inputs_of(len(self._before), kind="other ")
            _say(f"{self._options.output} also has the results of {others}")


def _say(text: str) -> None:
    print(f"offloop map: {text}", file=sys.stderr, flush=True)


def _how_to_go_on(options: Options) -> str:
    if options.output is None:
        return "to be able to go on after an interruption, give it --output FILE"
    arguments = [each for each in options.arguments if each != "--resume"]
    command = shlex.join(["offloop", "map", "--resume", *arguments])
    if len(command) > _LONGEST_COMMAND:
        command = "the same command with --resume"
    if not options.inputs or "-" in options.inputs:
        command += ", with the same standard input"
    return f"to go on: {command}"
