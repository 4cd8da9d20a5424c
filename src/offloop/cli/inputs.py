"""The inputs of ``offloop map``: texts, and the pieces of files and of standard input.

Pieces are lines, or end with NUL.  They are read while workers run, and reading
never blocks the event loop: ``tail -f log | offloop map ...`` works.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack
from typing import Self

from offloop.cli.arguments import UsageError

_BLOCK = 1 << 16


class Inputs:
    """What the INPUT arguments mean; an asynchronous iterable of strings, to be read once.

    It owns the files it opened: use it as a context manager.

    Args:
        arguments: texts, ``@FILE`` and ``-``; none means ``-``.
        separator: the byte that ends each piece of a file.
        skip_blank: leave out what is nothing but white space.

    Raises:
        UsageError: a file cannot be opened, or ``-`` stands there twice; while
            they are read, that they cannot be.
    """

    def __init__(
        self, arguments: Sequence[str], separator: bytes = b"\n", *, skip_blank: bool = False
    ) -> None:
        if arguments.count("-") > 1:
            raise UsageError("standard input (-) can be read only once")
        self._separator = separator
        self._skip_blank = skip_blank
        self._files = ExitStack()
        try:
            self._sources = [self._open(argument) for argument in arguments or ["-"]]
        except BaseException:
            self._files.close()
            raise

    def _open(self, argument: str) -> str | _Source:
        """A text, or where to read pieces from."""
        if argument == "-":
            return _Source(0, "standard input")
        if argument.startswith("@@") or not argument.startswith("@"):
            return argument.removeprefix("@")
        path = argument[1:]
        try:
            file = self._files.enter_context(open(path, "rb", buffering=0))  # noqa: SIM115 - the stack closes it
        except OSError as error:
            raise UsageError(f"cannot read the inputs in {path!r}: {error.strerror}") from error
        return _Source(file.fileno(), path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._files.close()

    @property
    def asks_terminal(self) -> bool:
        """Whether somebody is expected to type inputs."""
        return any(not isinstance(source, str) and os.isatty(source.descriptor) for source in self._sources)

    def count(self) -> int | None:
        """How many inputs there are, or None where that is known only at the end (a pipe, a terminal).

        It may be asked at any time, and costs reading each file once.
        """
        total = 0
        pieces: int | None
        for source in self._sources:
            if isinstance(source, str):
                pieces = int(self._is_input(source))
            elif (pieces := source.count(self._separator, self._is_input)) is None:
                return None
            total += pieces
        return total

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        for source in self._sources:
            if isinstance(source, str):
                if self._is_input(source):
                    yield source
                continue
            async for piece in read_pieces(source.descriptor, self._separator, source.name):
                if self._is_input(piece):
                    yield piece

    def _is_input(self, piece: str | bytes) -> bool:
        return not self._skip_blank or bool(piece.strip())


class _Source:
    """A file to read pieces from, from where its position is now."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        try:
            is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError as error:
            raise UsageError(f"cannot read {name}: {error.strerror}") from error
        self._start = os.lseek(descriptor, 0, os.SEEK_CUR) if is_regular else None

    def count(self, separator: bytes, is_input: Callable[[bytes], bool]) -> int | None:
        """How many pieces there are from where it began; None for what is no regular file."""
        if self._start is None:
            return None
        # pread leaves the position alone, which a redirected stdin may share with others.
        count, rest, offset = 0, b"", self._start
        while block := os.pread(self.descriptor, _BLOCK, offset):
            offset += len(block)
            *pieces, last = block.split(separator)
            if pieces:
                pieces[0] = rest + pieces[0]
                count += sum(map(is_input, pieces))
                rest = b""
            rest = _sample(rest + last)
        return count + (bool(rest) and is_input(rest))


def _sample(piece: bytes) -> bytes:
    """A byte of the piece that is no white space if there is one; of an empty piece none.

    It stands for a piece of any length where inputs are counted.
    """
    return piece.strip()[:1] or piece[:1]


async def read_pieces(
    descriptor: int, separator: bytes = b"\n", name: str = "the inputs"
) -> AsyncGenerator[str, None]:
    """The pieces of a file, without what ends them; invalid UTF-8 passes as surrogate escapes.

    Args:
        descriptor: where to read.
        separator: the byte that ends a piece; a line may end with ``\\r\\n``, too.
        name: what it is called in an error.

    Raises:
        UsageError: it cannot be read.
    """
    parts: list[bytes] = []  # of a piece that has not ended
    while block := await _read(descriptor, name):
        first, *pieces = block.split(separator)
        parts.append(first)
        if pieces:
            yield _text(b"".join(parts), separator)
            parts = [pieces.pop()]
            for piece in pieces:
                yield _text(piece, separator)
    if rest := b"".join(parts):
        yield _text(rest, separator)


def _text(piece: bytes, separator: bytes) -> str:
    if separator == b"\n":
        piece = piece.removesuffix(b"\r")
    return piece.decode("utf-8", "surrogateescape")


async def _read(descriptor: int, name: str) -> bytes:
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
    except PermissionError:  # epoll refuses what never blocks: regular files, /dev/null
        return _read_now(descriptor, name)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)
    return _read_now(descriptor, name)


def _read_now(descriptor: int, name: str) -> bytes:
    try:
        return os.read(descriptor, _BLOCK)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
