"""How many items of a map go into one chunk.

A chunk is one task: what it costs to send (100 µs and more with its wake-ups) is
shared by its items, but its items also wait for each other.  So fast items
travel by the thousand, and slow ones alone.  Three known ideas meet here:

* Like a transport's slow start, the size begins at 1 and grows fourfold at most,
  or sixteenfold where little time is at stake, each time a chunk of the present
  size comes back: nothing is known at first, and each worker gets one item.
  Where items and results cost next to nothing to send, and the length of the
  input is known, a first item, or an earlier map, is enough to *bet* on: each
  worker gets a share of all, makes its own slow start, without a round trip for
  each step, and gives back what there was no time for.
* Towards the end of an input of known length, a chunk holds at most a fair
  share of what is left, so that the workers finish together: guided
  self-scheduling (Polychronopoulos and Kuck, IEEE Trans. Computers C-36(12),
  1987) takes ``remaining / workers``; we take half of it, as factoring does
  (Hummel, Schonberg and Flynn, Comm. ACM 35(8), 1992), since durations vary.
* A duration far above the expected one means that they are not alike.  Then
  items go one by one for a while, and each further surprise doubles that
  while (exponential back-off).

Pure: durations are handed in, and no clock is read.
"""

from __future__ import annotations

import math

#: Seconds of work that a chunk aims at: some 50 times what sending it costs, which the CPUs of the
#: workers have to spare.  With 2 ms, items of 1 ms, then one per chunk, came to 0.89 of the ideal on
#: 2 CPUs, with this to 0.95; those of 0.1 ms to 0.86 and 0.91.  Items of half as long, or longer, go alone.
TARGET = 5e-3
#: The same, as so many times what it costs to send what the function carries: a closure's list, a
#: method's object.  Each chunk has it anew, and its worker takes about as long again to load it.
CARRYING = 4
#: Work below this many seconds is not split to balance the tail: sending it costs as much.
WORTH_SPLITTING = 100e-6
#: Most items in a chunk.  Pickling or unpickling 4,096 numbers or short texts holds the
#: event loop for 100 to 200 µs, and sending them costs it as much.
MOST_ITEMS = 4096
#: The same where they are other objects: each takes 1 µs and more to pickle.
MOST_OBJECTS = 1024
#: Most bytes of results in a chunk, if they are expected to be as large as those seen.  What waits to be
#: sent, or handed to the consumer, is in memory; and a copy of so much takes some milliseconds.
MOST_BYTES = 4 << 20
#: How many times larger than those before it a chunk may be, before one of its size came back.  Each
#: step takes a chunk for every slot, at some 50 µs; a larger one would bet more items on few.
GROWTH = 4
#: The same for one that is expected to take no longer than `WORTH_SPLITTING`.  With that, and one chunk a
#: worker before the first came back, maps of 100 to 1,000 no-ops take 0.6 of the time.
LEAP = 16
#: Most items in a bet, as all fail if one of them ends its worker; or, where chunks of earlier maps were
#: larger and none was lost, as many as those had.
MOST_BET = 256
#: Where there are no more items for each worker, they go one by one, as many chunks as may be outstanding:
#: nothing of such a map has to be sent again.
FEW_ITEMS = 4
#: Only items that take less than so many seconds are bet on: with longer ones the round trips that it saves
#: are little.  And only where no chunk took longer than `LONG_CHUNK`: a bet holds up its other items for as
#: long as the slowest one runs.
SHORT_ITEM = 20e-6
LONG_CHUNK = 2 * TARGET
#: Where the size of chunks is given: seconds of work outstanding for each worker, and chunks at most.
#: With four of the shortest, 10,000 no-ops one by one took twice as long.
AHEAD, MOST_AHEAD = 2e-3, 16
#: Seconds that pulling and sending one chunk may hold the event loop, and, later, loading its results.
TURN = 1e-3
#: A chunk is a surprise if it took this many times the expected seconds …
SURPRISE_FACTOR = 4.0
#: … and this many seconds more: being preempted costs 3 to 4 ms, and proves nothing.
SURPRISE_SECONDS = 10e-3
#: Items that go one by one after a first surprise, and at most.  1,024 of them
#: cost 10 ms in all, no more than the surprise itself did.
FIRST_HOLD, LONGEST_HOLD = 64, 1024


class Past:
    """What the maps of one function have learned.

    Attributes:
        item: expected seconds of running time per item; None before there was one.
        pickle: expected seconds per item to pickle it.
        longest: seconds of the longest chunk, less if that is some maps ago.
        is_light: whether items and results were numbers and short texts, in the latest map.
        proven: the most items of a chunk that came back, in maps of which no chunk was lost.
    """

    __slots__ = ("is_light", "item", "longest", "pickle", "proven")

    def __init__(self) -> None:
        self.item: float | None = None
        self.pickle = self.longest = 0.0
        self.is_light = True
        self.proven = 0


class Chunker:
    """Decides the size of each chunk of one map, from measured durations.

    Args:
        workers: how many workers share the chunks, at least 1.
        length: number of items, or None if that is not known.
        chunksize: a fixed size, or None to adapt.
        window: the most items that may be under way: at most half of them go in one chunk whose size is
            not given, and no more than each worker's share, which leaves one waiting, where there is work
            in them that is worth splitting.
        may_bet: whether items cost nothing to pull.
        past: what earlier maps of the function have learned, which bets rely on; this one goes on with it.
    """

    __slots__ = (
        "_carried",
        "_fair",
        "_fixed",
        "_has_lost",
        "_has_told",
        "_hold",
        "_is_light",
        "_item",
        "_limit",
        "_load",
        "_longest",
        "_may_bet",
        "_most",
        "_next_hold",
        "_past",
        "_pickle",
        "_pull",
        "_remaining",
        "_seen",
        "_sent",
        "_share",
        "_size",
        "_weight",
        "_workers",
    )

    def __init__(
        self,
        workers: int,
        *,
        length: int | None = None,
        chunksize: int | None = None,
        window: float = math.inf,
        may_bet: bool = False,
        past: Past | None = None,
    ) -> None:
        self._workers = workers
        self._remaining = length
        self._fixed = None if chunksize is None else int(min(chunksize, window))
        self._limit = int(max(1, min(window / 2, MOST_ITEMS)))
        self._fair = int(max(1, min(window / (2 * workers), MOST_ITEMS)))
        self._most = MOST_ITEMS
        self._size = 1  # what durations allow, before the tail and the event loop have a say
        self._item: float | None = None  # expected seconds of running time per item
        self._weight = 0.0  # expected bytes of a result, if it is large
        self._sent = 0  # items that have been sent,
        self._seen = 0  # and that have come back
        self._pull = 0.0  # expected seconds in the event loop per item: to pull it,
        self._pickle = 0.0  # and to pickle it; and, in other turns,
        self._load = 0.0  # to load its result
        self._carried = 0.0  # expected seconds to send what the function carries, once for each chunk,
        self._has_told = False  # if any chunk has told of it
        self._hold = 0  # items that still go one by one
        self._next_hold = FIRST_HOLD
        self._past = past = Past() if past is None else past
        self._longest = past.longest / 2  # seconds of a chunk; what was slow is forgotten in time
        self._has_lost = False  # whether a chunk failed as a whole
        self._is_light = True  # whether items and results are numbers and short texts
        self._may_bet = may_bet and past.is_light and self._fixed is None
        self._share = 0  # most items of a bet
        if length is not None and length > FEW_ITEMS * workers:
            self._share = min(-(-length // workers), max(MOST_BET, past.proven))
        if self._may_bet:
            self._item, self._pickle = past.item, past.pickle

    def next_size(self) -> int:
        """The size of the next chunk, at least 1."""
        if self._fixed is not None:
            return self._fixed
        is_bet = self.is_bet
        size = self._stake() if is_bet else self._size
        if size == 1:
            return 1
        most = self._fair_share(size)
        if is_bet:
            most = max(most, MOST_BET)
        held = self._pull + self._pickle
        if held * size > TURN:
            size = int(TURN / held)
        if self._load * size > TURN:
            size = int(TURN / self._load)
        if self._weight * size > MOST_BYTES:
            size = int(MOST_BYTES / self._weight)
        return max(1, min(size, most, self._limit, self._most))

    @property
    def is_bet(self) -> bool:
        """Whether the next chunk has more items than is known to be wise: a worker may give back some."""
        if not (self._may_bet and self._is_light) or self._item is None or self._item > SHORT_ITEM:
            return False
        return self._size < self._stake() and self._longest < LONG_CHUNK

    def _stake(self) -> int:
        """The most items of a bet."""
        assert self._item is not None, "nobody bets on what is not known at all"
        return min(self._share, int(TARGET / self._item))

    def outstanding(self, usual: int) -> int:
        """How many chunks may be outstanding.

        While nothing is known of many items, one for each worker; of chunks whose size is given, and
        that are short, as many as make up for it; else the usual number.
        """
        if self._fixed is not None and self._item is not None:
            seconds = self._item * self._fixed
            return max(usual, min(self._workers * MOST_AHEAD, int(self._workers * AHEAD / seconds)))
        if self._item is not None and self._carried > self._item * self._size:
            return min(self._workers, usual)  # larger ones will be worth it
        is_short = self._remaining is not None and self._remaining <= usual
        is_known = self._seen > 0 or self._fixed is not None or self.is_bet
        return usual if is_known or is_short else min(self._workers, usual)

    def ahead(self) -> int:
        """How many items to look ahead for the end of the input; 0 where it is known, or means nothing."""
        if self._remaining is not None or self._fixed is not None or self._size == 1:
            return 0
        return 2 * self._workers * self._size

    def came_back(self, items: int, seconds: float) -> None:
        """Note that so many of a bet's items were given back, after so many seconds."""
        assert self._remaining is not None, "no bets are made without it"
        self._remaining += items
        if seconds < TARGET / 2:
            self._is_light = False  # it was not for want of time

    def ends_after(self, items: int) -> None:
        """Note how many items are left to be sent."""
        self._remaining = items

    def weigh(self, *, is_light: bool, result: int = 0) -> None:
        """Note what a chunk is made of.

        Args:
            is_light: whether its items and results are numbers and short texts.
            result: bytes of one of its results, if it is large.
        """
        if not is_light:
            self._is_light, self._most = False, MOST_OBJECTS
        self._weight = _follow(self._weight, result)

    def sent(self, size: int, seconds: float = 0.0) -> None:
        """Note that a chunk was sent.

        Args:
            size: its items.
            seconds: how long pulling and sending it held the event loop.
        """
        if self._remaining is not None:
            self._remaining = max(0, self._remaining - size)
        self._sent += size
        self._pull = _follow(self._pull, seconds / size, size / self._sent)

    def record(
        self,
        size: int,
        seconds: float,
        pickling: float = 0.0,
        loading: float = 0.0,
        carried: float | None = 0.0,
    ) -> None:
        """Take a finished chunk into account.

        Args:
            size: its items.
            seconds: its measured running time.
            pickling: for how many seconds that held the event loop, with what the function carries if that
                is not told apart; 0 for a moment.
            loading: the same of its results.
            carried: seconds that it took to send what the function carries; None if that can't be told.
        """
        # Each chunk has it; what one took longer to send, the first one as a rule, was something else.
        if carried is None:
            pickling = max(0.0, pickling - self._carried)
        else:
            self._carried = min(carried, self._carried) if self._has_told else carried
            self._has_told = True
        surprised = self._is_surprise(size, seconds)
        item = max(seconds / size, 1e-9)
        self._seen += size
        share = size / self._seen
        self._load = _follow(self._load, loading / size, share)
        self._pickle = _follow(self._pickle, pickling / size, share)
        self._longest = max(self._longest, seconds)
        self._item = item if self._item is None else _follow(self._item, item, share)
        if surprised:
            self._hold = self._next_hold
            self._next_hold = min(2 * self._next_hold, LONGEST_HOLD)
        elif self._hold > 0:
            self._hold -= size
        self._size = self._allowed(size)
        past = self._past
        past.item, past.pickle, past.longest = self._item, self._pickle, self._longest
        past.is_light = self._is_light
        if self._fixed is None and not self._has_lost:
            past.proven = max(past.proven, size)

    def lost(self) -> None:
        """Note that a chunk failed as a whole."""
        self._has_lost = True
        self._past.proven = 0
        self._share = min(self._share, MOST_BET)

    def _allowed(self, size: int) -> int:
        """The size that durations allow, now that a chunk of ``size`` has come back."""
        assert self._item is not None, "a chunk was recorded"
        target = max(TARGET, CARRYING * self._carried)
        if self._hold > 0 or 2 * self._item >= target:
            return 1
        most = max(self._size, size)
        if size == most:
            most = max(GROWTH * most, min(LEAP * most, self._not_worth_splitting(self._item)))
        return max(1, min(most, int(target / self._item), self._most))

    def _is_surprise(self, size: int, seconds: float) -> bool:
        if self._item is None or not self._seen:
            return False
        expected = self._item * size
        return seconds > SURPRISE_FACTOR * expected and seconds - expected > SURPRISE_SECONDS

    def _fair_share(self, size: int) -> int:
        """The most items that leave the others enough to do, or of ``size`` are not worth splitting."""
        share = self._fair
        if self._item is None:
            return share
        if self._remaining is not None:
            share = min(share, -(-self._remaining // (2 * self._workers)))
        return max(share, min(size, self._not_worth_splitting(self._item)))

    def _not_worth_splitting(self, item: float) -> int:
        """How many items of so many seconds are too little work to go in two chunks."""
        return int(max(WORTH_SPLITTING, self._carried) / item)


def _follow(known: float, sample: float, share: float = 0.0) -> float:
    """A moving estimate that believes bad news at once and good news by a quarter.

    Too large a chunk of slow items delays results; too small a chunk of fast
    ones costs microseconds.  A sample of most of what has been seen, which ``share``
    tells, counts by that: a first item alone says little.
    """
    return sample if sample > known else known + (sample - known) * max(0.25, share)
