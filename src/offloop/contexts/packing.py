"""Messages to a running task as bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offloop.child.faults import unpicklable
from offloop.wire.pickling import MessageEncoder, TablePickler, is_named


class Packer(MessageEncoder):
    """Pickles messages that stand for themselves: what has a name goes by it, all else by value.

    Definitions travel on the data socket, which a worker does not read while it runs a
    task.  So a message must not need any.

    Args:
        importable: whether a worker can import a module of this name.
    """

    def __init__(self, importable: Callable[[str], bool]) -> None:
        super().__init__()
        self._importable = importable

    def pack(self, value: Any) -> bytes:
        """A message as it travels.

        Raises:
            SerializationError: it can't be pickled.
        """
        try:
            return self.encode(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise unpicklable("a message", value, error) from error

    def refer(self, pickler: TablePickler, obj: Any, /) -> Any:
        """By name what has one; see `offloop.wire.pickling.Owner.refer`."""
        return NotImplemented if is_named(obj, self._importable) else None

    def importable(self, module_name: str, /) -> bool:
        """Whether a worker can import a module of this name."""
        return self._importable(module_name)
