"""What a worker hands to its parent where objects are shared, not pickled."""

from __future__ import annotations

from offloop.errors import RemoteTraceback, TaskFailed
from offloop.wire.exceptions import store, stored
from offloop.wire.failure import is_control_flow
from offloop.wire.tracebacks import message_of, own_text, type_name_of


def as_seen_by_parent(error: BaseException) -> BaseException:
    """The exception to raise in the parent: the object itself, told where it was raised.

    It raises nothing, whatever the exception's own code does: the worker's thread would end.
    """
    name, message = type_name_of(type(error)), message_of(error)
    text, _ = own_text(error, name, message)
    remote = RemoteTraceback(text)
    if is_control_flow(type(error)):
        failed = TaskFailed(name, message, text)
        failed.__cause__ = remote
        return failed
    cause = stored(error, "__cause__")
    remote.__cause__ = cause.__cause__ if type(cause) is RemoteTraceback else cause
    store(error, "__cause__", remote)
    store(error, "__traceback__", None)
    return error
