"""The records of an output file: what a line says, and which inputs the lines that are there account for.

A record is one line, ``{"input": ..., "result": ...}``.  It is the whole memory
of what was done: there is no second file that could disagree with it.  The
argument why a resumed run loses no input and writes none twice stands in
docs/command-line.md.
"""

from __future__ import annotations

import json
from collections import Counter
from hashlib import blake2b
from typing import IO, Any, NamedTuple

#: What each record begins with, as this program writes it.
_HEAD = b'{"input": '


class NotRecordsError(Exception):
    """A file holds something else than records; it is left as it is."""


def value_of(text: str, *, is_json: bool) -> Any:
    """The value that stands in the record for an input with this text.

    Raises:
        ValueError: it should be JSON, and is not.
    """
    if not is_json:
        return text
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def record(value: Any, result: str) -> str:
    """The line for an input's value and the JSON of its result, without its end."""
    return f'{_HEAD.decode()}{json.dumps(value)}, "result": {result}}}'


class Done:
    """How often each input is done.  Equal inputs are one input that is given several times.

    Values are kept as digests of 16 bytes, some 100 bytes of memory each.
    """

    def __init__(self) -> None:
        self._left: Counter[bytes] = Counter()

    def add(self, value: Any) -> None:
        """Note that an input with this value is done once more."""
        self._left[_digest(value)] += 1

    def take(self, text: str, *, is_json: bool) -> bool:
        """Whether the input with this text is done; each ``add`` answers for one such question."""
        try:
            digest = _digest(value_of(text, is_json=is_json))
        except ValueError:  # it is told as the failure that it is where it is run
            return False
        if digest not in self._left:
            return False
        self._left[digest] -= 1
        if not self._left[digest]:
            del self._left[digest]
        return True

    def __len__(self) -> int:
        """How many inputs are done and were not asked about."""
        return self._left.total()


def _digest(value: Any) -> bytes:
    # Fields are keyword arguments, whose order means nothing.
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()


class Found(NamedTuple):
    """What a file holds: the inputs that are done, and how many of its bytes are whole records."""

    done: Done
    end: int


def read_records(file: IO[bytes]) -> Found:
    """Read a file of records that may have been broken off anywhere.

    The last line may be torn.  After a power cut, lines may hold NUL bytes in
    place of what did not reach the disk; then what follows does not count either.

    Raises:
        NotRecordsError: the file holds something else.
    """
    done, end = Done(), 0
    for number, line in enumerate(file, 1):
        if b"\0" in line or not line.endswith(b"\n"):
            if not done and not _may_begin_record(line):
                raise NotRecordsError(f"line {number} is no record")
            break
        try:
            done.add(_input_of(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NotRecordsError(f"line {number} is no record") from error
        end += len(line)
    return Found(done, end)


def _may_begin_record(line: bytes) -> bool:
    """Whether a torn line, with nothing but it to go by, is of a file of ours; nothing at all is not."""
    text = line.partition(b"\0")[0]
    return text.startswith(_HEAD) or (bool(text) and _HEAD.startswith(text))


def _input_of(line: bytes) -> Any:
    found = json.loads(line)
    found["result"]
    return found["input"]
