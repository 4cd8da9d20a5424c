"""The text of one exception: its traceback as `traceback` prints it, without offloop's own frames.

Nothing here ever raises, whatever the exception's own code does, and every
text is bounded.
"""

from __future__ import annotations

from offloop.wire.exceptions import stored

TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import Any

#: How long a message, a list of frames or a note may be, in characters.
MAX_TEXT = 100 * 1024
#: How many frames are shown at each end of a deep stack.  Python's default
#: recursion limit is 1,000, so a plain RecursionError is shown whole.
MAX_FRAMES = 500

#: Stacks of up to that many frames are kept as they were formatted; and how many of them.
_SHORT, _REMEMBERED = 16, 64
#: By the ids of the code and the places in it; what has these ids is kept beside the text.
_formatted_before: dict[tuple[int, ...], tuple[list[CodeType], str]] = {}

# As frames name their files, which need not be how `__file__` does.
_PACKAGE = (lambda: None).__code__.co_filename.rpartition("wire/")[0]


def cut(text: str) -> str:
    """The text, or its beginning and end if it has more than `MAX_TEXT` characters."""
    text = str.__str__(text)  # exactly a str, should it be of a subclass
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def type_name_of(cls: type) -> str:
    """The qualified name of a class, without ``builtins.``."""
    try:
        module, name = cls.__module__, cls.__qualname__
        return str.__str__(name) if module == "builtins" else f"{module}.{name}"
    except BaseException:  # a metaclass may do anything
        return type.__repr__(cls)


def message_of(error: BaseException) -> str:
    """``str(error)``, or a text that says it failed."""
    try:
        return cut(str(error))
    except BaseException:  # user code: it may exit, or worse
        return "<exception str() failed>"


def brief(error: BaseException) -> str:
    """``ValueError: its text``, whatever the exception's own code does."""
    return f"{type.__getattribute__(type(error), '__name__')}: {message_of(error)}"


def notes_of(error: BaseException) -> tuple[str, ...]:
    """The exception's notes, as far as they are text."""
    notes: list[Any] | None = stored(error, "__dict__").get("__notes__")
    if type(notes) is not list:  # as a rule it is, but anyone may set it to anything
        return ()
    return tuple(cut(note) for note in notes if issubclass(type(note), str))


def own_text(error: BaseException, type_name: str, message: str) -> tuple[str, bool]:
    """The formatted traceback of this exception alone.

    Args:
        error: the exception; its chain and its group's members are not told.
        type_name: what `type_name_of` says of its class.
        message: what `message_of` says of it.

    Returns:
        The text, and whether there are frames in it.
    """
    try:
        return _formatted(error, message)
    except BaseException:  # user code, memory, a stack nearly used up
        return f"{type_name}: {message}\n", False


class _Alone:
    """An exception as `traceback` is to see it.

    It is cut off from its chain and its members, which have texts of their
    own, and has its message at hand, so that its ``__str__`` does not run twice.
    """

    __cause__ = __context__ = None
    __suppress_context__ = True
    exceptions = ()

    def __init__(self, error: BaseException, message: str) -> None:
        self._error = error
        self._message = message

    def __getattribute__(self, name: str) -> Any:
        # For isinstance, which `traceback` asks before it suggests a name.
        return type(self._error) if name == "__class__" else object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._error, name)

    def __str__(self) -> str:
        return self._message


def _formatted(error: BaseException, message: str) -> tuple[str, bool]:
    import traceback

    trace = stored(error, "__traceback__")
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next  # as a rule ours are the first ones, and reading their lines takes time
    stack = _stack(trace)
    # What it suggests in place of a wrong name it looks for in the frames; else there is no need of them.
    frames = trace if issubclass(type(error), (NameError, AttributeError)) else None
    alone: Any = _Alone(error, message)
    told = traceback.TracebackException(type(error), alone, frames, limit=0)
    header = "Traceback (most recent call last):\n" if stack else ""
    return header + stack + cut("".join(told.format_exception_only())), bool(stack)


def _stack(trace: TracebackType | None) -> str:
    """The lines of a stack, less offloop's own, which say nothing about the task.

    To format one takes 10 to 20 µs a frame, for `traceback` parses the source to
    know what to underline; and tasks that fail do so at the same few places.
    """
    places: list[int] = []
    codes: list[CodeType] = []
    entry = trace
    while entry is not None:
        code = entry.tb_frame.f_code
        codes.append(code)
        places += (id(code), entry.tb_lasti)
        entry = entry.tb_next
    if len(codes) > _SHORT:
        return cut("".join(_lines(trace, len(codes) - 2 * MAX_FRAMES)))
    key = tuple(places)
    known = _formatted_before.get(key)
    if known is None:
        if len(_formatted_before) >= _REMEMBERED:
            _formatted_before.clear()
        known = _formatted_before[key] = codes, cut("".join(_lines(trace, 0)))
    return known[1]


def _lines(trace: TracebackType | None, left_out: int) -> list[str]:
    import traceback

    def kept(limit: int | None) -> list[str]:
        stack = traceback.extract_tb(trace, limit=limit)
        return type(stack).from_list([f for f in stack if not f.filename.startswith(_PACKAGE)]).format()

    if left_out <= 0:
        return kept(None)
    return [*kept(MAX_FRAMES), f"  [... {left_out} frames left out ...]\n", *kept(-MAX_FRAMES)]
