"""The scheduler in every order of events: nothing is lost or run twice, and it comes to rest."""

from __future__ import annotations

from typing import Any

import pytest
from fakeworld import FakeWorker, Item, World
from hypothesis import note, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from profiles import CHOSEN, lift_time_bound

from offloop.scheduling import roster
from offloop.scheduling.estimate import Kind
from offloop.scheduling.state import GONE, READY, RESERVED, STARTING, STOPPING, Limits, WorkerState

PICKS = st.integers(0, 1 << 16)
SECONDS = st.sampled_from([0.0, 1e-5, 1e-4, 5e-4, 2e-3, 6e-3, 0.06])
LIMITS = st.builds(
    Limits,
    max_workers=st.integers(1, 3),
    min_workers=st.integers(0, 1),
    idle_timeout=st.just(10.0),
    max_tasks_per_worker=st.sampled_from([None, None, 3]),
    slots=st.sampled_from([1, 1, 2]),
    prefetch=st.booleans(),
    latency=st.sampled_from([0.0, 0.0, 0.02]),
)


def has(predicate: Any) -> Any:
    """The rule applies only while ``predicate`` holds for some worker."""
    return precondition(lambda self: any(predicate(fake) for fake in self.world.workers.values()))


class SchedulerMachine(RuleBasedStateMachine):
    """Does everything to a scheduler, one event at a time."""

    world: World

    @initialize(
        limits=LIMITS,
        warm=st.sampled_from([True, True, False]),
        most_at_once=st.sampled_from([roster.MOST_AT_ONCE, 1]),
    )
    def open(self, limits: Limits, warm: bool, most_at_once: int) -> None:
        note(f"{limits} {most_at_once=}")
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(roster, "MOST_AT_ONCE", most_at_once)  # 1: so few workers are many
        self.world = World(limits)
        self.kinds = [Kind() for _ in range(4)]
        if warm:  # workers that have started, and tasks known to be short
            for kind in self.kinds[:3]:
                self.world.enqueue(kind)
            self.world.drain(1e-5)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self._ends()
        finally:
            self.patches.undo()

    def _ends(self) -> None:
        world = self.world
        self._comes_to_rest()
        self._idle_workers_go()
        world.close()
        self._comes_to_rest()
        scheduler = world.scheduler
        assert not world.workers
        assert not scheduler.workers, "closing stops every worker"
        assert not any((scheduler._idle, scheduler._hungry, scheduler._ahead, scheduler._pinned_waiting))
        assert not scheduler._draining
        assert not scheduler._bound
        for worker in list(world.leases):  # too late to matter
            world.release(worker)
        assert not world.turn()

    def _comes_to_rest(self) -> None:
        self.world.drain()
        self.all_is_well()
        assert not self.world.open, "every task ends"

    def _idle_workers_go(self) -> None:
        """Idle workers retire by their timer alone, and a timer that is due always finds something to do."""
        world = self.world
        while not world.scheduler.closing and (deadline := world.scheduler.idle_deadline()) is not None:
            world.now = max(world.now, deadline) + 0.001
            assert world.turn().stop
            self._comes_to_rest()

    def pick(self, number: int, predicate: Any) -> FakeWorker:
        fitting = [fake for fake in self.world.workers.values() if predicate(fake)]
        return fitting[number % len(fitting)]

    # -- users ------------------------------------------------------------------

    @precondition(lambda self: not self.world.scheduler.closing)
    @rule(
        kind=st.integers(0, 3),
        keys=st.lists(st.sampled_from([None, None, "a", "b"]), min_size=1, max_size=8),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        retries=st.sampled_from([0, 0, 1]),
    )
    def enqueue(self, kind: int, keys: list[str | None], priority: int, retries: int) -> None:
        for key in keys:
            self.world.enqueue(self.kinds[kind], key=key, priority=priority, retries=retries)

    @precondition(lambda self: self.open_leases() and not self.world.scheduler.closing)
    @rule(pick=PICKS, kind=st.integers(0, 3), retries=st.sampled_from([0, 1]), count=st.sampled_from([1, 3]))
    def enqueue_on_lease(self, pick: int, kind: int, retries: int, count: int) -> None:
        leases = self.open_leases()
        worker = leases[pick % len(leases)]
        for _ in range(count):
            self.world.enqueue(self.kinds[kind], pin=worker.number, retries=retries)

    def open_leases(self) -> list[WorkerState[Item]]:
        return [worker for worker in self.world.leases if worker.phase not in (STOPPING, GONE)]

    @precondition(lambda self: self.world.open)
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        items = list(self.world.open.values())
        self.world.cancel(items[pick % len(items)])

    @precondition(lambda self: not self.world.scheduler.closing)
    @rule()
    def lease(self) -> None:
        self.world.lease()

    @precondition(lambda self: not self.world.scheduler.closing)
    @rule(kind=st.integers(0, 3), turns=st.integers(0, 1), how=st.sampled_from([*(["run on"] * 5), "close"]))
    def use_leases_at_once(self, kind: int, turns: int, how: str) -> None:
        """As many as there may be workers: one plan may not start them all, and meanwhile much may happen."""
        for _ in range(self.world.limits.max_workers):
            self.world.enqueue(self.kinds[kind], pin=self.world.lease().number)
        for _ in range(turns):
            self.world.turn()
        self.end(how)

    @precondition(lambda self: self.world.leases)
    @rule(pick=PICKS)
    def release(self, pick: int) -> None:
        self.world.release(self.world.leases[pick % len(self.world.leases)])

    @precondition(lambda self: self.world.leases)
    @rule(pick=PICKS, is_kill=st.booleans())
    def end_lease(self, pick: int, is_kill: bool) -> None:
        worker = self.world.leases[pick % len(self.world.leases)]
        self.world.release(worker)
        if is_kill:
            self.world.kill_worker(worker)
        else:
            self.world.retire(worker, dismiss=True)

    @precondition(lambda self: self.world.scheduler.running_numbers())
    @rule(pick=PICKS, is_urgent=st.booleans())
    def recycle(self, pick: int, is_urgent: bool) -> None:
        numbers = self.world.scheduler.running_numbers()
        worker = self.world.scheduler.workers[numbers[pick % len(numbers)]]
        if is_urgent:
            self.world.retire(worker)
        else:
            self.world.replace(worker)

    @precondition(lambda self: not self.world.scheduler.closing)
    @rule(
        kind=st.integers(0, 3),
        keys=st.lists(st.sampled_from(["a", "b", "c"]), min_size=4, max_size=8),
        key=st.sampled_from(["a", "b", "c"]),
    )
    def retire_who_has_a_key(self, kind: int, keys: list[str], key: str) -> None:
        """A worker retires, started or not, while tasks of its keys wait for it, and more of them come."""
        for _ in range(2):
            self.enqueue(kind, keys, 0, 0)
            self.world.turn()
            owner = self.world.scheduler._bound.get(key)
            if owner is not None:
                self.world.retire(owner)

    @rule(how=st.sampled_from([*(["run on"] * 30), "close", "kill"]))
    def end(self, how: str) -> None:
        if how == "close":
            self.world.close()
        elif how == "kill":
            self.world.kill()

    # -- everybody ----------------------------------------------------------------

    @rule(steps=st.integers(1, 6), seconds=SECONDS)
    def go_on(self, steps: int, seconds: float) -> None:
        for _ in range(steps):
            self.world.step(seconds)

    # -- time -------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1e-4, 1.5e-3, 6e-3, 0.1, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(how=st.sampled_from(["run on", "run on", "rest"]))
    def rest(self, how: str) -> None:
        if how == "rest":
            self._comes_to_rest()

    @rule(held_off=st.booleans())
    def hold_off(self, held_off: bool) -> None:
        """Starting workers has failed; or it is tried again, of which the shell makes a turn."""
        self.world.scheduler.held_off = held_off
        self.world.is_turn_due = True

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @precondition(lambda self: self.world.workers and not self.world.scheduler.closing)
    @rule(
        count=st.integers(2, 12),
        begun=st.integers(0, 3),
        silent=st.sampled_from([1.5e-3, 6e-3]),
        obeyed=st.sampled_from(["at once", "late", "after a death"]),
    )
    def stall(self, count: int, begun: int, silent: float, obeyed: str) -> None:
        """Short tasks are handed out, and then nothing gets done for a while."""
        self.enqueue(1, [None] * count, 0, 1)
        self.world.turn()
        fakes = list(self.world.workers.values())
        for fake in fakes[:begun]:
            if fake.may_begin:
                fake.begin(self.world.now)
        self.world.now += silent
        self.world.turn()
        for fake in [fake for fake in fakes if fake.commands and fake.is_alive]:
            if obeyed != "late":
                fake.obey()
            if obeyed == "after a death":
                fake.is_alive = False

    # -- workers ------------------------------------------------------------------

    @has(lambda fake: not fake.is_up and fake.is_alive)
    @rule(pick=PICKS)
    def set_up(self, pick: int) -> None:
        self.pick(pick, lambda fake: not fake.is_up and fake.is_alive).set_up()

    @has(lambda fake: fake.may_begin)
    @rule(pick=PICKS)
    def begin(self, pick: int) -> None:
        self.pick(pick, lambda fake: fake.may_begin).begin(self.world.now)

    @has(lambda fake: fake.running and fake.is_alive)
    @rule(pick=PICKS, seconds=SECONDS)
    def finish(self, pick: int, seconds: float) -> None:
        self.world.now += seconds
        fake = self.pick(pick, lambda fake: fake.running and fake.is_alive)
        ids = list(fake.running)
        fake.finish(ids[pick % len(ids)], self.world.now)

    @has(lambda fake: fake.may_begin and not fake.running)
    @rule(pick=PICKS, seconds=SECONDS)
    def run_many(self, pick: int, seconds: float) -> None:
        fake = self.pick(pick, lambda fake: fake.may_begin and not fake.running)
        for _ in range(5):
            if fake.may_begin:
                fake.begin(self.world.now)
            for id in list(fake.running):
                self.world.now += seconds
                fake.finish(id, self.world.now)

    @has(lambda fake: fake.commands and fake.is_alive)
    @rule(pick=PICKS)
    def obey(self, pick: int) -> None:
        self.pick(pick, lambda fake: fake.commands and fake.is_alive).obey()

    @has(lambda fake: fake.is_alive)
    @rule(pick=PICKS, is_busy=st.booleans())
    def die(self, pick: int, is_busy: bool) -> None:
        fake = self.pick(pick, lambda fake: fake.is_alive)
        if is_busy and fake.may_begin:
            fake.begin(self.world.now)
        fake.is_alive = False

    # -- what arrives -----------------------------------------------------------

    @has(lambda fake: fake.said)
    @rule(pick=PICKS)
    def hear(self, pick: int) -> None:
        self.world.hear(self.pick(pick, lambda fake: fake.said))

    @has(lambda fake: fake.returned)
    @rule(pick=PICKS)
    def hear_returned(self, pick: int) -> None:
        self.world.hear_returned(self.pick(pick, lambda fake: fake.returned))

    @has(lambda fake: not fake.is_alive)
    @rule(pick=PICKS)
    def notice_death(self, pick: int) -> None:
        self.world.notice_death(self.pick(pick, lambda fake: not fake.is_alive))

    # -- what always holds --------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        self.everything_is_in_one_place()
        self.tables_are_right()
        self.keys_belong_to_one_worker()
        self.there_are_not_too_many_workers()

    def everything_is_in_one_place(self) -> None:
        scheduler = self.world.scheduler
        places: dict[int, int] = {}
        waiting = scheduler.waiting()
        for item in waiting:
            assert item.queue is not None
            places[item.id] = places.get(item.id, 0) + 1
        for worker in scheduler.workers.values():
            for item in worker.hand.values():
                assert item.queue is None
                assert item.worker is worker
                places[item.id] = places.get(item.id, 0) + 1
        assert places == dict.fromkeys(self.world.open, 1)
        assert scheduler.queued == len(waiting)
        assert scheduler.in_hand == len(places) - len(waiting)

    def tables_are_right(self) -> None:
        scheduler, slots = self.world.scheduler, self.world.limits.slots
        workers = set(scheduler.workers.values())
        waiting = set(scheduler._pinned_waiting)
        for table in (scheduler._idle, scheduler._hungry, scheduler._ahead, waiting):
            assert set(table) <= workers
        assert {worker for worker in workers if worker.pinned or worker.keyed} <= waiting
        for worker in workers:
            is_ready = worker.phase == READY
            assert (worker in scheduler._idle) == (is_ready and not worker.hand and worker not in waiting)
            assert is_ready or worker not in scheduler._hungry
            assert worker in scheduler._hungry or not is_ready or len(worker.hand) >= slots
            assert (worker in scheduler._ahead) == (len(worker.hand) > slots and worker.phase != STOPPING)
            assert worker.leases >= 0
            if worker.phase != STOPPING:  # one that was killed is past planning
                load = sum(item.cost for item in worker.hand.values())
                assert worker.load == pytest.approx(load, abs=1e-9)
                assert worker.recalled <= set(worker.hand)

    def keys_belong_to_one_worker(self) -> None:
        scheduler = self.world.scheduler
        pairs = {(key, worker) for worker in scheduler.workers.values() for key in worker.keys}
        assert pairs == set(scheduler._bound.items())

    def there_are_not_too_many_workers(self) -> None:
        scheduler = self.world.scheduler
        living = [worker for worker in scheduler.workers.values() if worker.is_living]
        assert len(living) <= self.world.limits.max_workers
        started = {worker.number for worker in scheduler.workers.values() if worker.phase >= STARTING}
        assert set(self.world.workers) == started
        if not self.world.is_turn_due:
            assert all(worker.leases or worker.pinned for worker in living if worker.phase == RESERVED)


class TestSchedulerInEveryOrder(SchedulerMachine.TestCase):
    settings = CHOSEN

    def setUp(self) -> None:
        lift_time_bound()
