"""How far a stream may run ahead of its consumer: the window that both ends count.

The sender counts what it sent against what it was granted; the receiver grants
anew once half of the window was consumed.  A full window is more than one half,
so a sender that waits is granted something by the time all of it is consumed.
"""

from __future__ import annotations

#: A stream waits when so many items, or so many bytes of items, were not consumed yet.
ITEMS, BYTES = 256, 1 << 20
HALF_ITEMS, HALF_BYTES = ITEMS // 2, BYTES // 2


class SendWindow:
    """The sender's end.  One thread sends, another may grant."""

    __slots__ = ("_granted_bytes", "_granted_items", "_sent_bytes", "_sent_items")

    def __init__(self) -> None:
        # Two counts for each, and each with one writer: so no lock is needed.
        self._sent_items = self._sent_bytes = self._granted_items = self._granted_bytes = 0

    def sent(self, size: int) -> bool:
        """Note that an item of ``size`` bytes was sent; returns whether there is room for another."""
        # As `has_room`, but called for each item.
        self._sent_items = items = self._sent_items + 1
        self._sent_bytes = total = self._sent_bytes + size
        return items - self._granted_items < ITEMS and total - self._granted_bytes < BYTES

    def grant(self, items: int, size: int) -> None:
        """Note that so many items, of ``size`` bytes together, were consumed."""
        self._granted_items += items
        self._granted_bytes += size

    def has_room(self) -> bool:
        """Whether another item may be sent, however large it is."""
        return (
            self._sent_items - self._granted_items < ITEMS and self._sent_bytes - self._granted_bytes < BYTES
        )


class ReceiveWindow:
    """The receiver's end."""

    __slots__ = ("_bytes", "_items")

    def __init__(self) -> None:
        self._items = self._bytes = 0

    def consumed(self, size: int) -> tuple[int, int] | None:
        """Note that an item of ``size`` bytes was consumed; returns items and bytes to grant, or None."""
        self._items = items = self._items + 1
        self._bytes = total = self._bytes + size
        if items < HALF_ITEMS and total < HALF_BYTES:
            return None
        grant = items, total
        self._items = self._bytes = 0
        return grant
