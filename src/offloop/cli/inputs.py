"""The inputs of ``offloop map``: texts, the lines of files, the lines of standard input.

Lines are read while workers run, and reading never blocks the event loop:
``tail -f log | offloop map ...`` works.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from typing import Self

from offloop.cli.arguments import UsageError

_STDIN = 0
_BLOCK = 1 << 16


class Inputs:
    """What the INPUT arguments mean; an asynchronous iterable of strings, to be read once.

    It owns the files it opened: use it as a context manager.

    Args:
        arguments: texts, ``@FILE`` and ``-``; none means ``-``.

    Raises:
        UsageError: a file cannot be opened, or ``-`` stands there twice.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        if arguments.count("-") > 1:
            raise UsageError("standard input (-) can be read only once")
        self._files = ExitStack()
        try:
            self._sources = [self._open(argument) for argument in arguments or ["-"]]
        except BaseException:
            self._files.close()
            raise

    def _open(self, argument: str) -> str | int:
        """A text, or a file descriptor to read lines from."""
        if argument == "-":
            return _STDIN
        if argument.startswith("@@") or not argument.startswith("@"):
            return argument.removeprefix("@")
        path = argument[1:]
        try:
            file = self._files.enter_context(open(path, "rb", buffering=0))  # noqa: SIM115 - the stack closes it
        except OSError as error:
            raise UsageError(f"cannot read the inputs in {path!r}: {error.strerror}") from error
        return file.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._files.close()

    def count(self) -> int | None:
        """How many inputs there are, or None where that is known only at the end (a pipe, a terminal).

        Costs reading each file once.
        """
        total = 0
        for source in self._sources:
            lines = 1 if isinstance(source, str) else _count_lines(source)
            if lines is None:
                return None
            total += lines
        return total

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        for source in self._sources:
            if isinstance(source, str):
                yield source
            else:
                async for line in read_lines(source):
                    yield line


def _count_lines(descriptor: int) -> int | None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    lines, last = 0, b""
    # pread leaves the position alone, which a redirected stdin may share with others.
    offset = os.lseek(descriptor, 0, os.SEEK_CUR)
    while block := os.pread(descriptor, _BLOCK, offset):
        lines += block.count(b"\n")
        offset += len(block)
        last = block
    return lines + (bool(last) and not last.endswith(b"\n"))


async def read_lines(descriptor: int) -> AsyncGenerator[str, None]:
    """Lines of a file descriptor, without their line ends; invalid UTF-8 passes as surrogate escapes."""
    rest = b""
    while block := await _read(descriptor):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield _text(line)
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "surrogateescape")


async def _read(descriptor: int) -> bytes:
    """The next bytes, as soon as there are some; empty at the end.

    The descriptor stays in blocking mode, because a terminal's flags are
    shared with stdout and with the shell.
    """
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def ready() -> None:
        # It may be called again before the awaiting coroutine gets to run.
        if not readable.done():
            readable.set_result(None)

    try:
        loop.add_reader(descriptor, ready)
    except PermissionError:
        return os.read(descriptor, _BLOCK)  # epoll refuses what never blocks: regular files, /dev/null
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _BLOCK)
