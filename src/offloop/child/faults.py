"""Errors for what can't be pickled or loaded; they name its type."""

from __future__ import annotations

from offloop.errors import SerializationError
from offloop.wire.byvalue import type_of
from offloop.wire.tracebacks import brief, type_name_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


def unpicklable(what: str, value: Any, error: BaseException) -> SerializationError:
    """The error for a value that can't be pickled; ``what`` says what it is, such as "a result"."""
    cls = type_of(value)
    result = SerializationError(f"{what} of type {type_name_of(cls)} can't be pickled: {brief(error)}")
    result.__cause__ = error
    return result


def unloadable(what: str, error: BaseException) -> SerializationError:
    """The error for a value that can't be loaded."""
    result = SerializationError(f"{what} can't be loaded: {brief(error)}")
    result.__cause__ = error
    return result


def unloadable_reply(what: str, name: bytes, error: BaseException) -> SerializationError:
    """The parent's error for what can't be loaded there; its type, in the worker, is called ``name``."""
    of = f" of type {name.decode(errors='replace')}" if name else ""
    result = SerializationError(f"{what}{of} could not be loaded: {brief(error)}")
    result.loading = True
    result.__cause__ = error if isinstance(error, Exception) else None
    return result
