"""Log records of a worker, on their way to the parent; loaded right after `logging`."""

from __future__ import annotations

import logging

from offloop.child.forward import MAX_TEXT
from offloop.wire.cpickle import dumps
from offloop.wire.frames import LOG

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from offloop.child.forward import Current, Send

#: The largest record that is forwarded whole, in bytes; a larger one loses its extra attributes.
MAX_RECORD = 1 << 20
#: How deep, and up to how many members, collections among a record's attributes are taken as they are.
_MAX_DEPTH = 10
_MAX_MEMBERS = 10_000

#: Values that can be loaded anywhere; of their subclasses that is not known.
_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
_COLLECTIONS = frozenset({list, tuple, dict})
#: The attributes of a record that every record has.
_STANDARD = frozenset(
    {*logging.LogRecord("", 0, "", 0, "", None, None).__dict__, "taskName", "task_id"},
)
#: Those that travel in another form, and what another handler's formatter has left.
_REPLACED = frozenset({"msg", "args", "exc_info", "exc_text", "message", "asctime"})

_formatter = logging.Formatter()


class Records:
    """Forwards what reaches the root logger, from the parent's levels up."""

    def __init__(self, send: Send, current: Current) -> None:
        self._handler = Forwarder(send, current)
        self._levels: dict[str, int] = {}
        self._disabled = 0
        logging.root.addHandler(self._handler)

    def apply(self, settings: dict[str, Any]) -> None:
        """Take on what has changed in the parent's levels; what the worker's own code set else stays."""
        levels: dict[str, int] = settings["levels"]
        for name in self._levels.keys() - levels.keys():
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in levels.items():
            if self._levels.get(name) != level:
                logging.getLogger(name).setLevel(level)
        self._levels = levels
        if self._disabled != settings["disabled"]:
            self._disabled = settings["disabled"]
            logging.disable(self._disabled)

    def let_go(self) -> None:
        """Forward no more."""
        logging.root.removeHandler(self._handler)


class Forwarder(logging.Handler):
    """The root logger's handler in a worker."""

    def __init__(self, send: Send, current: Current) -> None:
        super().__init__()
        self._send = send
        self._current = current

    def createLock(self) -> None:  # noqa: N802  # its name in `logging`
        """No lock: sending needs none, and is called from finalisers too."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Forward a record, unless a filter of this handler keeps it."""
        kept: Any = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; what goes wrong is dealt with as `logging` does, and not raised."""
        try:
            context = self._current()
            self._send(LOG, encode(record, context.task_id if context is not None else None))
        except Exception:
            self._complain(record)

    def _complain(self, record: logging.LogRecord) -> None:
        try:
            self.handleError(record)
        except Exception:
            pass  # no stderr, or no stack left: there is nobody to tell


def encode(record: logging.LogRecord, task_id: int | None) -> bytes:
    """A record as bytes that load in any process.

    As in `logging.handlers.QueueHandler.prepare` its message is complete, and
    its exception a text; but that stays apart, in ``exc_text``.  Other
    attributes are kept as far as they are plain data; see `plain`.

    Raises:
        Exception: the message does not go with its arguments.
    """
    fields = {
        name: value if type(value) in _PLAIN else plain(value)
        for name, value in record.__dict__.copy().items()
        if name not in _REPLACED and type(name) is str
    }
    fields.setdefault("task_id", task_id)
    fields["msg"] = cut(record.getMessage())
    fields["args"] = fields["exc_info"] = None
    text = record.exc_text or (_formatter.formatException(record.exc_info) if record.exc_info else None)
    fields["exc_text"] = text and cut(text)
    data = dumps(fields, 5)
    if len(data) <= MAX_RECORD:
        return data
    essence = {name: value for name, value in fields.items() if name in _STANDARD}
    for name, value in essence.items():
        if type(value) is str and name not in _REPLACED:
            essence[name] = cut(value)
    return dumps(essence, 5)


def cut(text: str) -> str:
    """A text of at most `MAX_TEXT` characters; how many are missing is said behind them."""
    if len(text) <= MAX_TEXT:
        return str.__str__(text)  # itself, but for subclasses
    return f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} more characters)"


def plain(value: Any, depth: int = _MAX_DEPTH, room: list[int] | None = None) -> Any:
    """A value as data that loads anywhere.

    Text, numbers, bytes and None stay what they are, also in lists, tuples and
    dictionaries.  Anything else becomes its ``repr``, and what is nested too
    deeply, or has too many members, the name of its type.
    """
    if type(value) in _PLAIN:
        return value
    room = room if room is not None else [_MAX_MEMBERS]
    try:
        if type(value) in _COLLECTIONS:
            return _plain_members(value, depth, room)
        # Of a subclass, such as an enumeration, the value without the class.
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int.__int__(value)
        if isinstance(value, float):
            return float.__float__(value)
        return cut(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"


def _plain_members(value: Any, depth: int, room: list[int]) -> Any:
    room[0] -= len(value)
    if not depth or room[0] < 0:
        return f"<{type(value).__name__}>"
    pairs: Any = value.items() if hasattr(value, "items") else None
    if pairs is not None:
        return {plain(key, depth - 1, room): plain(member, depth - 1, room) for key, member in pairs}
    members = [plain(member, depth - 1, room) for member in value]
    return members if type(value) is list else tuple(members)
