"""How a failure is told: one line, and its traceback where that is asked for."""

from __future__ import annotations

import traceback

from offloop.errors import RemoteTraceback

#: Most characters of an input that are shown.
MOST = 200


def failure_text(text: str, error: BaseException, *, with_traceback: bool = False) -> str:
    """What is said of an input that failed.

    Args:
        text: the input.
        error: why it failed.
        with_traceback: show where, too, on lines of their own.
    """
    line = f"{shown(text)}: {one_line(error)}"
    if not with_traceback:
        return line
    return f"{line}\n" + printable(_traceback_of(error), keep="\n")


def one_line(error: BaseException) -> str:
    """``ErrorType: message`` on one line, whatever the message holds."""
    try:
        message = printable(" ".join(str(error).split()))
    except Exception:
        message = "(its message cannot be shown)"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def shown(text: str) -> str:
    """An input on one line of bounded length, with nothing in it that a terminal would obey."""
    return printable(text if len(text) <= MOST else f"{text[: MOST - 1]}…")


def printable(text: str, keep: str = "") -> str:
    """The same with nothing in it that a terminal would obey: characters that do not print are escaped.

    Args:
        text: any text.
        keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text)


def _traceback_of(error: BaseException) -> str:
    """The traceback in the worker, below those of the exceptions that led to it."""
    remote = error.__cause__
    if not isinstance(remote, RemoteTraceback):
        return "".join(traceback.format_exception(error)).rstrip("\n")
    text = remote.text.rstrip("\n")
    if remote.__cause__ is not None:
        return f"{_traceback_of(remote.__cause__)}\n\n{_BY_CAUSE}\n\n{text}"
    if remote.__context__ is not None and not remote.__suppress_context__:
        return f"{_traceback_of(remote.__context__)}\n\n{_IN_CONTEXT}\n\n{text}"
    return text


# As the `traceback` module has them.
_BY_CAUSE = "The above exception was the direct cause of the following exception:"
_IN_CONTEXT = "During handling of the above exception, another exception occurred:"
