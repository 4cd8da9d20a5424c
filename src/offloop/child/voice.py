"""What a worker process says about its running tasks, and the messages of their channels as bytes."""

from __future__ import annotations

import _thread

from offloop.child.faults import unloadable, unpicklable
from offloop.errors import TaskCancelled
from offloop.wire import cpickle
from offloop.wire.codec import Decoder, ReplyEncoder
from offloop.wire.frames import MESSAGE, frame

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from offloop.child.outlet import Outlet


class Encoders(_thread._local):
    """An encoder for each thread that sends messages.

    One for all of them would need a lock, which a cancellation that comes as an exception from
    another thread could leave locked.  That of the results belongs to the runner's thread.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.own = ReplyEncoder(decoder)


class Voice:
    """Says things on the control socket; any thread may use it.

    Args:
        outlet: where they go.
        decoder: the worker's, whose definitions messages refer to.
    """

    def __init__(self, outlet: Outlet, decoder: Decoder) -> None:
        self._outlet = outlet
        self._decoder = decoder
        self._encoders = Encoders(decoder)

    def tell(self, kind: int, id: int, value: Any) -> None:
        """Say something about a running task, without waiting."""
        if kind != MESSAGE:  # which was packed
            value = cpickle.dumps(value, 5) if value is not None else b""
        self._outlet.send(frame(kind, value, id=id))

    def pack(self, value: Any) -> bytes:
        """A message as it travels.

        Raises:
            SerializationError: it can't be pickled.
        """
        try:
            return self._encoders.own.encode(value)
        except TaskCancelled:
            raise
        except BaseException as error:
            raise unpicklable("a message", value, error) from error

    def unpack(self, packed: bytes | memoryview) -> Any:
        """The message that came.

        Raises:
            SerializationError: it can't be loaded.
        """
        try:
            return self._decoder.decode(packed)
        except TaskCancelled:
            raise
        except BaseException as error:
            raise unloadable("a message", error) from error

    def let_go(self) -> None:
        """This is a process that a task forked."""
        self._outlet.close()
