"""How many bytes each task costs, while somebody wants to know: usually only whole writes are counted."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from offloop.child.layout import Copy, Part, WithDescriptor
from offloop.contexts.process_link import ProcessLink
from offloop.contexts.replies import Replies
from offloop.contexts.sending import Sender
from offloop.contexts.starters import Starter
from offloop.link import LinkOwner, Sendable
from offloop.wire.frames import FAILED, HEADER, UNLOADABLE, Record


class WeighingSender(Sender):
    """A sender that notes how large each task is."""

    inlined = 0
    weights: dict[int, int]
    _weight = 0

    def _add_pickled(
        self, kind: int, ref: int, item: Sendable, pickled: bytes, buffers: Sequence[memoryview] = ()
    ) -> None:
        self._weight = HEADER.size
        super()._add_pickled(kind, ref, item, pickled, buffers)
        self.weights[item.id] = self._weight

    def _write(self, part: Part) -> None:
        if isinstance(part, Copy):
            self._weight += part.source.nbytes
        else:
            self._weight += len(part.data if isinstance(part, WithDescriptor) else part)
        super()._write(part)


class WeighingReplies(Replies):
    """Replies that know how large the one is that is being handed on."""

    in_slices = False  # it knows the weight of one at a time
    items: dict[int, tuple[int, int]]  # of streams: how many items came, and their bytes
    _before: int | None = None

    @property
    def weight(self) -> int:
        """Bytes of what is being handed on: by socket, and as far as it was loaded by segment."""
        return HEADER.size if self._before is None else self._lending.taken - self._before

    def take_result(self, record: Record, owner: LinkOwner) -> None:
        """Hand on a result."""
        with self.weighing(record):
            super().take_result(record, owner)

    def take_item(self, record: Record, owner: LinkOwner) -> None:
        """Hand on an item of a stream."""
        with self.weighing(record):
            super().take_item(record, owner)
            count, weight = self.items.get(record[3], (0, 0))
            if record[4] == count:  # an item may come twice
                self.items[record[3]] = count + 1, weight + self.weight

    @contextmanager
    def weighing(self, record: Record) -> Generator[None]:
        """Hand this on inside."""
        self._before = self._lending.taken - HEADER.size - len(record[6])
        try:
            yield
        finally:
            self._before = None


class WeighingLink(ProcessLink):
    """A link that knows how large each task and its outcome were."""

    _sender: WeighingSender
    _replies: WeighingReplies

    def _start(self, starter: Starter) -> None:
        super()._start(starter)
        self._sender.weights = {}
        self._sender.__class__ = WeighingSender

    def weights(self, id: int) -> tuple[int | None, int | None]:
        """Bytes to the worker and back for a task that has just ended."""
        replies = self._replies
        return self._sender.weights.pop(id, HEADER.size), replies.weight + replies.items.pop(id, (0, 0))[1]

    def _handle(self, record: Record) -> None:
        if record[0] in (FAILED, UNLOADABLE):
            with self._replies.weighing(record):
                super()._handle(record)
        else:
            super()._handle(record)


def weigh(link: Any, is_on: bool) -> None:
    """Have a link weigh each task, or no more."""
    kind: type[ProcessLink] = link.__class__
    if is_on and kind is ProcessLink and hasattr(link, "_sender"):  # it has, unless its start failed
        link._sender.weights, link._replies.items = {}, {}
        link.__class__ = WeighingLink
        link._sender.__class__, link._replies.__class__ = WeighingSender, WeighingReplies
    elif not is_on and kind is WeighingLink:
        link.__class__ = ProcessLink
        link._sender.__class__, link._replies.__class__ = Sender, Replies
