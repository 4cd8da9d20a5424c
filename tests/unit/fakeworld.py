"""A world without event loop, clock or processes, in which a scheduler can be tried in every order of events.

`FakeWorker` is a worker: it runs what it was sent in order, gives back what is
recalled before it started (by the real `Turns`), and what it says is under way
until the test lets it arrive.  `World` is the shell: it does what `Dispatcher`
and `WorkerHandle` do, in the same order, without executions and links.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from shortcuts import lone_plan

from offloop.child.turns import Turns
from offloop.scheduling.estimate import Kind
from offloop.scheduling.prefetch import LONG, MAX_HAND, STALLED, TARGET
from offloop.scheduling.queue import TaskQueue
from offloop.scheduling.scheduler import Scheduler
from offloop.scheduling.state import READY, RETIRING, STARTING, Limits, Plan, WorkerState

#: Float sums may differ by this much.
ROUNDING = 1e-9


@dataclass(eq=False)
class Item:
    """An enqueued task, as the scheduler sees it, and what became of it."""

    id: int
    kind: Kind
    key: Hashable = None
    pin: int = 0
    priority: int = 0
    retries: int = 0
    cost: float = 0.0
    queue: TaskQueue[Any] | None = None
    worker: WorkerState[Any] | None = None
    place: int = 0
    attempt: int = 1
    starts: int = 0
    was_put_back: bool = False
    is_cancelled: bool = False
    outcome: str = ""

    def __repr__(self) -> str:
        return f"<Item {self.id} {self.outcome or 'open'}>"


@dataclass(eq=False)
class FakeWorker:
    """The far end of one worker."""

    state: WorkerState[Item]
    slots: int
    turns: Turns = field(default_factory=Turns)
    inbox: deque[Item | None] = field(default_factory=deque)  # None: stop
    commands: deque[tuple[bool, list[tuple[int, int]]]] = field(default_factory=deque)  # is cancel, places
    running: dict[int, tuple[Item, float]] = field(default_factory=dict)
    said: deque[tuple[str, Item | None, float, float]] = field(default_factory=deque)
    returned: deque[list[int]] = field(default_factory=deque)
    recalled: set[int] = field(default_factory=set)  # places
    sent: int = 0
    is_up: bool = False
    is_alive: bool = True
    is_killed: bool = False

    def set_up(self) -> None:
        self.is_up = True
        self.said.append(("ready", None, 0.0, 0.0))

    @property
    def may_begin(self) -> bool:
        return self.is_alive and self.is_up and bool(self.inbox) and len(self.running) < self.slots

    def begin(self, now: float) -> None:
        """Go on to the next record: run it, pass it over, or take leave."""
        item = self.inbox.popleft()
        if item is None:
            if self.running:
                self.inbox.appendleft(None)
                return
            self.is_alive = False
        elif self.turns.begin():
            item.starts += 1
            assert item.starts <= item.attempt, f"{item} was run twice"
            assert not item.pin or item.pin == self.state.number, f"{item} ran on another worker"
            self.running[item.id] = (item, now)

    def finish(self, id: int, now: float) -> None:
        item, start = self.running.pop(id)
        self.said.append(("ended", item, start, now))

    def obey(self) -> None:
        """Serve one recall or cancellation, as the control thread does."""
        is_cancel, places = self.commands.popleft()
        taken = self.turns.take_back(places)
        if taken:
            self.returned.append(taken)
        if is_cancel:
            for place, _ in places:
                self.turns.request_cancel(place)


class World:
    """The shell of one pool: it carries out plans, and tells the scheduler what happened."""

    def __init__(self, limits: Limits) -> None:
        self.now = 1000.0
        self.limits = limits
        self.scheduler: Scheduler[Item] = Scheduler(limits)
        self.workers: dict[int, FakeWorker] = {}
        self.items: list[Item] = []
        self.open: dict[int, Item] = {}
        self.leases: list[WorkerState[Item]] = []
        self.is_turn_due = False
        self.last_dispatched: dict[Hashable, int] = {}
        self.key_owner: dict[Hashable, WorkerState[Item]] = {}

    # -- what users do --------------------------------------------------------

    def enqueue(self, kind: Kind | None = None, **options: Any) -> Item:
        item = Item(len(self.items) + 1, kind or Kind(), **options)
        self.items.append(item)
        self.open[item.id] = item
        self.scheduler.add(item)
        self.is_turn_due = True
        return item

    def cancel(self, item: Item) -> None:
        if item.queue is not None:
            self.scheduler.discard(item)
            self.end(item, "cancelled")
        elif not item.is_cancelled:
            assert item.worker is not None
            item.is_cancelled = True
            self.workers[item.worker.number].commands.append((True, [(item.place, item.id)]))

    def lease(self) -> WorkerState[Item]:
        worker = self.scheduler.lease(self.now)
        self.leases.append(worker)
        return worker

    def release(self, worker: WorkerState[Item]) -> None:
        self.leases.remove(worker)
        self.scheduler.release(worker)
        self.is_turn_due = True

    def retire(self, worker: WorkerState[Item], *, dismiss: bool = False) -> None:
        (self.scheduler.dismiss if dismiss else self.scheduler.retire)(worker)
        self.is_turn_due = True

    def replace(self, worker: WorkerState[Item]) -> None:
        self.scheduler.replace(worker)
        self.is_turn_due = True

    def kill_worker(self, worker: WorkerState[Item], *, all: bool = False) -> None:
        fake = self.workers.get(worker.number)
        if fake is None:
            for item in list(worker.pinned):
                self.scheduler.discard(item)
                self.end(item, "killed")
            self.scheduler.retire(worker)
        else:
            fake.is_killed = True
            self.scheduler.condemn(worker)
            for item in [item for item in worker.hand.values() if all or item.pin]:
                del worker.hand[item.id]
                self.end(item, "killed")
            for item in [*worker.pinned, *(worker.keyed if all else ())]:
                self.scheduler.discard(item)
                self.end(item, "killed")
        self.is_turn_due = True

    def close(self) -> None:
        self.scheduler.closing = True
        self.is_turn_due = True

    def kill(self) -> None:
        self.scheduler.closing = True
        for item in self.scheduler.waiting():
            self.scheduler.discard(item)
            self.end(item, "killed")
        for fake in list(self.workers.values()):
            self.kill_worker(fake.state, all=True)
        self.is_turn_due = True

    # -- what the shell does --------------------------------------------------

    def end(self, item: Item, outcome: str) -> None:
        assert not item.outcome, f"{item} ended twice"
        item.outcome = outcome
        del self.open[item.id]
        self.is_turn_due = True

    def turn(self) -> Plan[Item]:
        """One turn of the event loop."""
        self.is_turn_due = False
        hands = {worker: list(worker.hand.values()) for worker in self.scheduler.workers.values()}
        plan = lone_plan(self.scheduler, self.now) or self.scheduler.plan(self.now)
        for worker in plan.start:
            self.workers[worker.number] = FakeWorker(worker, self.limits.slots)
        for worker, items in plan.dispatch:
            self._check_dispatch(worker, hands.get(worker, []), items)
            for item in items:
                self._send(self.workers[worker.number], item)
        self._check_order(plan)
        for worker, items in plan.recall:
            self._check_recall(self.workers[worker.number], items)
            places = [(item.place, item.id) for item in items]
            self.workers[worker.number].commands.append((False, places))
        for worker in plan.stop:
            self._check_stop(worker)
            self.workers[worker.number].inbox.append(None)
        if self.scheduler.more:
            self.is_turn_due = True
        return plan

    @staticmethod
    def _send(fake: FakeWorker, item: Item) -> None:
        fake.sent += 1
        item.place = fake.sent
        fake.inbox.append(item)

    def _check_dispatch(self, worker: WorkerState[Item], hand: list[Item], items: list[Item]) -> None:
        """Each task may be sent to this worker, and may be sent behind what it already held."""
        assert worker.phase in (READY, RETIRING)
        assert worker.was_ready
        hand = list(hand)
        sent = self.workers[worker.number].sent
        for item in items:
            assert not item.pin or item.pin == worker.number
            if not item.pin and item.key is not None:
                self._check_key(worker, item)
            if not item.pin:
                most = self.limits.max_tasks_per_worker
                assert most is None or sent < most
            sent += 1
            if len(hand) >= self.limits.slots:
                load = sum(held.cost for held in hand)
                bound = LONG if len(hand) == self.limits.slots else TARGET + self.limits.latency
                assert all(held.kind.seconds is not None for held in hand), "behind a task never measured"
                assert load < bound + ROUNDING
                assert self.now - worker.progress <= STALLED + self.limits.latency + hand[0].cost + ROUNDING
                assert len(hand) < MAX_HAND
            hand.append(item)

    def _check_key(self, worker: WorkerState[Item], item: Item) -> None:
        owner = self.key_owner.get(item.key)
        assert owner is None or owner is worker or owner.phase != READY
        for other in self.scheduler.workers.values():
            others = [held for held in other.hand.values() if not held.pin and held.key == item.key]
            assert other is worker or not others, "equal keys in two hands"
        self.key_owner[item.key] = worker

    def _check_recall(self, fake: FakeWorker, items: list[Item]) -> None:
        """Only what waits behind what runs, what may run elsewhere, and only once."""
        behind = list(fake.state.hand.values())[self.limits.slots :]
        for item in items:
            assert item in behind
            assert not item.pin
            assert item.key is None
            assert item.place not in fake.recalled
            fake.recalled.add(item.place)

    def _check_stop(self, worker: WorkerState[Item]) -> None:
        assert not worker.hand
        assert not [*worker.pinned, *worker.keyed]
        if not self.scheduler.closing and not worker.dismissed:
            assert not worker.leases
            heir = worker.replacement if self.limits.has_spare else None
            assert heir is None or heir.phase != STARTING

    def _check_order(self, plan: Plan[Item]) -> None:
        """First in, first out: within a priority for what may run anywhere, for a lease, for a key."""
        order: dict[Hashable, list[int]] = {}
        for worker, items in plan.dispatch:
            for item in items:
                if not item.was_put_back:
                    lane = worker.number if item.pin else item.key
                    order.setdefault((item.priority, lane), []).append(item.id)
        for lane, ids in order.items():
            ids = ids if lane[1] is not None else sorted(ids)  # a plan hands these out to many
            assert ids == sorted(ids)
            assert ids[0] > self.last_dispatched.get(lane, 0)
            self.last_dispatched[lane] = ids[-1]

    # -- what arrives -----------------------------------------------------------

    def hear(self, fake: FakeWorker) -> None:
        """The next thing on the data socket arrives."""
        what, item, start, end = fake.said.popleft()
        if what == "ready":
            self.scheduler.worker_ready(fake.state, self.now)
            self.is_turn_due = True
            return
        assert item is not None
        if item.id in fake.state.hand:
            self.scheduler.finished(fake.state, item, end - start, end)
            self.end(item, "cancelled" if item.is_cancelled else "done")

    def hear_returned(self, fake: FakeWorker) -> None:
        """The next thing on the control socket arrives."""
        items = self.scheduler.returned(fake.state, fake.returned.popleft())
        self.put_back(self._without_cancelled(items))
        self.is_turn_due = True

    def send_failed(self, fake: FakeWorker) -> None:
        """The task sent last could not be pickled: it takes no place."""
        item = fake.inbox.pop()
        assert item is not None
        fake.sent -= 1
        self.scheduler.finished(fake.state, item, None, 0.0)
        self.end(item, "unpicklable")

    def notice_death(self, fake: FakeWorker) -> None:
        """The process is gone: first comes what it had said, then its end."""
        while fake.said:
            self.hear(fake)
        begun = list(fake.running)
        del self.workers[fake.state.number]
        loss = self.scheduler.worker_gone(fake.state, begun)
        for item in loss.running:
            self._settle_lost(item, fake)
        for item in loss.moved:
            item.was_put_back = True
        for item in self._cancelled(loss.moved):
            self.scheduler.discard(item)
            self.end(item, "cancelled")
        for item in loss.orphaned:
            self.end(item, "orphaned")
        self.is_turn_due = True

    def _settle_lost(self, item: Item, fake: FakeWorker) -> None:
        if item.is_cancelled:
            self.end(item, "cancelled")
        elif item.attempt <= item.retries and not item.pin:
            item.attempt += 1
            self.put_back([item])
        else:
            self.end(item, "crashed")

    def put_back(self, items: list[Item]) -> None:
        for item in items:
            item.was_put_back = True
        self.scheduler.put_back(items)

    def _cancelled(self, items: Iterable[Item]) -> list[Item]:
        return [item for item in items if item.is_cancelled]

    def _without_cancelled(self, items: list[Item]) -> list[Item]:
        for item in self._cancelled(items):
            self.end(item, "cancelled")
        return [item for item in items if not item.is_cancelled]

    # -- letting it run dry -----------------------------------------------------

    def drain(self, seconds: float = 0.0001) -> None:
        """Let everything happen that is under way; a plan is made only where the shell would make one."""
        for _ in range(10_000):
            if not self.step(seconds):
                return
        raise AssertionError("it never comes to rest")

    def step(self, seconds: float) -> bool:
        """Let one thing happen that is under way; False if nothing is."""
        if self.is_turn_due:
            self.turn()
        elif not self._let_one_thing_happen(seconds):
            if not self.scheduler.is_watching:
                return False
            self.now = self.scheduler.next_look(self.now)
            self.is_turn_due = True
        return True

    def _let_one_thing_happen(self, seconds: float) -> bool:
        for fake in list(self.workers.values()):
            if not fake.is_alive or fake.is_killed:
                self.notice_death(fake)
            elif fake.said:
                self.hear(fake)
            elif fake.returned:
                self.hear_returned(fake)
            elif fake.commands:
                fake.obey()
            elif not fake.is_up:
                fake.set_up()
            elif fake.may_begin and (fake.inbox[0] is not None or not fake.running):
                fake.begin(self.now)
            elif fake.running:
                self.now += seconds
                fake.finish(next(iter(fake.running)), self.now)
            else:
                continue
            return True
        return False
