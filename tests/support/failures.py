"""What the tests of failures share: ways to make exceptions, and to send them across."""

from __future__ import annotations

import pickle
import threading
import traceback
from typing import Any

import cloudpickle

from offloop.errors import (
    TaskFailed,
)
from offloop.wire.failure import Failure, decode_failure, encode_failure


def raised(error: BaseException) -> BaseException:
    """The same exception, after it was raised and caught."""
    try:
        raise error
    except BaseException as caught:
        return caught


def encode(error: BaseException) -> Failure:
    return encode_failure(error, cloudpickle.dumps, pickle.loads)


def cross(error: BaseException) -> Any:
    return decode_failure(encode(error), pickle.loads)


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def failed(error: Any) -> TaskFailed:
    assert type(error) is TaskFailed
    return error


class TwoArguments(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class OwnReduce(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        return OwnReduce, (self.code, self.detail)


def explode(what: BaseException) -> Any:
    raise what


class BreaksInDumps(Exception):
    def __init__(self, what: BaseException) -> None:
        super().__init__("breaks in dumps")
        self.what = what

    def __reduce__(self) -> Any:
        raise self.what


class BreaksInLoads(BreaksInDumps):
    def __reduce__(self) -> Any:
        return explode, (self.what,)


def with_attribute(error: BaseException, **attributes: Any) -> BaseException:
    vars(error).update(attributes)
    return error


def chained(*, how: str) -> BaseException:
    try:
        try:
            raise TwoArguments(1, "inner")
        except TwoArguments as inner:
            if how == "cause":
                raise ValueError("outer") from inner
            if how == "none":
                raise ValueError("outer") from None
            raise ValueError("outer")  # noqa: B904 - the context is the point
    except ValueError as caught:
        return caught


def explode_on_load(data: bytes) -> object:
    raise ValueError("not today")
