"""The ledger: a page shared by a worker and its parent that survives the worker.

A worker may die at any instruction, and then two things must be known exactly:
which task it was running, and what it had finished but not yet sent.  So the
worker notes the task it is about to run in a word of shared memory, and its
outgoing frames are written into shared memory before they are sent from there.

Why it is right (one writer, the worker; one reader, the parent):

* A task's frame is complete in the journal before the journal's length covers
  it, and the length covers it before the word names the next task.  So after
  a death, a task named by the word whose frame is not in the journal (nor
  came over the socket) had not finished; every task before it had, and its
  frame is found; every task behind it had not begun.
* The journal is emptied after it was sent.  A death in between leaves frames
  that were also received; the parent drops a result for a task that has ended.
* A living worker's journal may be read as well (a result that waits behind a
  long task).  Once the journal was sent, the worker sets its length to 0, then
  raises ``generation``, and only then writes anew.  So a reader that finds the
  same generation before and after its copy has bytes that were not touched
  meanwhile; otherwise it drops the copy: what was in it has been sent.
* What was written before a copy's content had been sent when it was copied.  So a
  reader copies first, then takes all that the socket holds, then what it copied:
  that keeps the order, and some frames come twice.

Two more words are hints that save system calls.  ``control`` counts the bytes
that the worker has put on the control socket: the parent, which counts what it
read there, sees without a look at the socket whether something waits.  And each
slot has a ``hungry`` word, written by the parent: somebody waits for the next
item of the stream that runs there, so that it is to be sent at once.

The layout is a row of 64-bit words (generation, length, number of slots, size of
the last words, control, then for each task that may run at a time a slot of
``task id, start time``, then their hungry words), the journal, and room for a
dying worker's last words: a ring with the end of its stderr, and its stack, which
faulthandler writes through the descriptor.  The stack comes last, so that one
that is too long for its room runs against the file's sealed end, and spoils
nothing.
"""

from __future__ import annotations

import mmap
import os
from errno import EMFILE, ENFILE

GENERATION, LENGTH, COUNT, SAID, CONTROL, SLOTS = 0, 1, 2, 3, 4, 5
#: The file's parts, in bytes: words and journal, the last of stderr, the stack of a fatal signal.
#: Pages that nobody touches take no memory.
JOURNAL_END = 1 << 16
RING_END = JOURNAL_END + (1 << 12)
SIZE = RING_END + (1 << 16)
#: How many tasks may be noted as running; more would leave the journal too little room.
MAX_SLOTS = 2000


def create_file() -> int:
    """A descriptor of anonymous shared memory of `SIZE` bytes, sealed against resizing where possible."""
    if hasattr(os, "memfd_create"):
        try:
            return sealed_memory("offloop-ledger", SIZE)
        except OSError as error:  # old sandboxes forbid it
            if error.errno in (EMFILE, ENFILE):  # a file would need a descriptor, too
                raise
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(bytes(SIZE))  # a full disk is to be an error here, and not a SIGBUS of who writes there
        file.flush()
        return os.dup(file.fileno())


def sealed_memory(name: str, size: int) -> int:
    """A descriptor of anonymous shared memory that nobody can resize; its pages are claimed as they are used.

    Raises:
        OSError: there is none, or it is forbidden.
    """
    import fcntl

    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Ledger:
    """One end's view of the shared page.

    Args:
        fd: a descriptor from `create_file`; it may be closed afterwards.
        slots: how many tasks may run at a time: said by the parent, who makes
            the page, and read from it by the worker.

    Raises:
        ValueError: more slots than `MAX_SLOTS`.
    """

    def __init__(self, fd: int, slots: int | None = None) -> None:
        if slots is not None and slots > MAX_SLOTS:
            raise ValueError(f"a worker process can note at most {MAX_SLOTS} tasks as running, not {slots}")
        self._map = mmap.mmap(fd, SIZE)
        self._view = memoryview(self._map)
        if slots is None:
            slots = int.from_bytes(self._view[8 * COUNT : 8 * COUNT + 8], "little")
        self.slots = slots
        #: Where the hungry words begin.
        self.hungry = SLOTS + 2 * slots
        head = 8 * (self.hungry + slots)
        self.words = self._view[:head].cast("Q")
        self.times = self._view[:head].cast("d")
        self.journal = self._view[head:JOURNAL_END]
        self._ring = self._view[JOURNAL_END:RING_END]
        self.capacity = len(self.journal)
        self.words[COUNT] = slots
        self._stack_end = 0

    def running(self) -> list[tuple[int, float]]:
        """The tasks noted as running: ``(task id, monotonic start time)``, possibly ended since."""
        pairs = range(SLOTS, SLOTS + 2 * self.slots, 2)
        noted = [(self.words[at], self.times[at + 1]) for at in pairs]  # each word is read once: it changes
        return [(id, start) for id, start in noted if id]

    def set_hungry(self, id: int, is_hungry: bool) -> None:
        """Parent: say whether somebody waits for the next item of the stream ``id``, if it runs."""
        for slot in range(self.slots):
            if self.words[SLOTS + 2 * slot] == id:
                self.words[self.hungry + slot] = is_hungry
                break

    def unsent(self) -> bytes:
        """The frames that were written but perhaps not sent; empty if they were sent meanwhile."""
        generation = self.words[GENERATION]
        copy = bytes(self.journal[: min(self.words[LENGTH], self.capacity)])
        return copy if self.words[GENERATION] == generation else b""

    def stack(self) -> str | None:
        """What faulthandler wrote at a fatal signal, or None."""
        text = bytes(self._view[RING_END:]).strip(b"\0")
        return text.decode(errors="replace") or None

    def has_room_for_stack(self) -> bool:
        """Parent: whether another stack surely fits behind those written since the last rewind.

        faulthandler writes where the last one ended, until the worker goes back to the beginning.
        """
        return self._stack_end < (SIZE - RING_END) // 2

    def take_stack(self) -> str:
        """Parent: the stack that was asked for, taken away so that it is not mistaken for a crash's."""
        area = self._view[RING_END:]
        text = bytes(area)
        self._stack_end = len(text.rstrip(b"\0"))
        area[: self._stack_end] = bytes(self._stack_end)
        area.release()
        return text.strip(b"\0").decode(errors="replace")

    def rewound(self) -> None:
        """Parent: the worker went back to the beginning."""
        self._stack_end = 0

    def say(self, data: bytes | memoryview) -> None:
        """Keep the end of what was written to stderr."""
        room = len(self._ring)
        end = bytes(data[-room:])
        at = self.words[SAID] % room
        first = min(len(end), room - at)
        self._ring[at : at + first] = end[:first]
        self._ring[: len(end) - first] = end[first:]
        self.words[SAID] += len(end)

    def last_words(self) -> str:
        """The end of the worker's stderr."""
        said, room = self.words[SAID], len(self._ring)
        start = said % room if said > room else 0
        data = (
            bytes(self._ring[start:]) + bytes(self._ring[:start]) if said > room else bytes(self._ring[:said])
        )
        return data.decode(errors="replace")

    def close(self) -> None:
        """Give the memory back."""
        for view in (self.words, self.times, self.journal, self._ring, self._view):
            view.release()
        self._map.close()
