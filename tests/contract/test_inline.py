"""The contract, over workers that run their tasks in the caller."""

from __future__ import annotations

from typing import Any

import pytest
from support import signals, tasks

from contract import worker_contract as suite
from offloop import current_task
from offloop.testing import InlineWorkerFactory

#: An async task that ignores its cancellation can't be ended: it is left to itself, with a warning.
abandons = pytest.mark.filterwarnings("ignore:.*abandon")


def worker_number() -> int:
    """What tells inline workers of one pool apart: they share a thread."""
    try:
        return current_task().worker_id
    except LookupError:  # a callback of an environment
        return 0


class Inline(suite.Context):
    """Workers that are the caller.

    No task may block at a gate that the caller is to open: it passes gates
    asynchronously.
    """

    pickles = False
    kills = False

    @pytest.fixture(autouse=True)
    def _adapted_tasks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tasks, "pass_gate", tasks.apass_gate)
        monkeypatch.setattr(tasks, "identity", worker_number)
        monkeypatch.setattr(signals, "identity", worker_number)

    def make_factory(self, **options: Any) -> InlineWorkerFactory:
        return InlineWorkerFactory(**options)


@abandons
class TestLifecycle(Inline, suite.LifecycleContract):
    pass


class TestBinding(Inline, suite.BindingContract):
    pass


class TestExecution(Inline, suite.ExecutionContract):
    pass


@abandons
class TestCancel(Inline, suite.CancelContract):
    #: While a synchronous task runs, nobody is there to cancel it.
    test_a_running_sync_task_is_cancelled_and_its_finally_runs = None


class TestFailure(Inline, suite.FailureContract):
    pass


class TestEnvironment(Inline, suite.EnvironmentContract):
    pass


class TestBootstrap(Inline, suite.BootstrapContract):
    pass


@abandons
class TestPool(Inline, suite.PoolContract):
    # A task that blocks blocks the event loop, too.
    test_no_outcome_waits_behind_a_task_that_takes_long = None  # type: ignore[assignment]


class TestDispatch(Inline, suite.DispatchContract):
    pass


@abandons
class TestLease(Inline, suite.LeaseContract):
    pass


class TestMap(Inline, suite.MapContract):
    pass


@abandons
class TestMapFailure(Inline, suite.MapFailureContract):
    #: Their functions wait for the test in the middle of synchronous code.
    test_closing_a_map_early_cancels_what_has_not_started = None
    test_an_item_that_catches_the_cancellation_is_the_last_one = None


class TestOptions(Inline, suite.OptionsContract):
    pass


class TestContext(Inline, suite.ContextContract, suite.ContextSharingContract):
    pass


class TestCancelRace(Inline, suite.CancelRaceContract):
    #: It is sent one task at a time.
    test_a_task_that_has_ended_unseen_keeps_its_result = None
    test_a_cancelled_awaiter_is_cancelled_though_its_task_has_ended_unseen = None
    #: Its bootstrap waits for the test.
    test_a_task_cancelled_while_its_worker_is_being_set_up_never_runs = None


class TestResource(Inline, suite.ResourceContract):
    #: Their synchronous callbacks wait for the test.
    test_shutdown_waits_until_all_is_closed = None
    test_shutdown_does_not_wait_for_ever = None
    test_a_pool_goes_on_when_a_worker_that_idles_out_hangs = None


@abandons
class TestStatistics(Inline, suite.StatisticsContract):
    #: The first cancels a synchronous task; the second asks for the name of the task that is replaced here.
    test_a_running_task_that_is_cancelled_or_takes_too_long = None
    test_a_worker_says_what_it_runs_and_since_when = None


@abandons
class TestStream(Inline, suite.StreamContract):
    #: Their generators wait for the test in the middle of synchronous code.
    test_an_item_arrives_while_the_generator_still_runs = None
    test_an_item_that_was_not_waited_for_is_found_behind_a_generator_that_went_on = None


class TestStreamFlow(Inline, suite.StreamFlowContract):
    pass


@abandons
class TestStreamClosing(Inline, suite.StreamClosingContract):
    #: While synchronous code runs, nobody is there to interrupt it.
    test_closing_interrupts_a_generator_whose_code_runs = None
    test_closing_interrupts_a_generator_on_a_worker_with_an_event_loop = None


class TestProgress(Inline, suite.ProgressContract):
    #: As with the streams.
    test_reports_arrive_while_the_task_still_runs = None
    test_cancelling_one_who_follows_touches_nobody_else = None
    test_a_dropped_iterator_leaves_nothing = None


class TestLogging(Inline, suite.LoggingContract):
    pass


class TestWarnings(Inline, suite.WarningsContract):
    pass


class TestSharing(Inline, suite.SharingContract):
    pass


class TestLarge(Inline, suite.LargeContract, suite.LargeSharingContract):
    #: As above.
    test_large_tasks_that_are_cancelled_before_they_start_harm_nobody = None


class TestLargeBytes(Inline, suite.LargeBytesContract):
    pass


class InlinePickling(Inline):
    """The same with everything pickled on its way."""

    pickles = True

    def make_factory(self, **options: Any) -> InlineWorkerFactory:
        return InlineWorkerFactory(**options, pickling=True)


class TestPicklingExecution(InlinePickling, suite.ExecutionContract):
    pass


class TestPicklingFailure(InlinePickling, suite.FailureContract):
    pass


class TestPicklingRemoteFailure(InlinePickling, suite.RemoteFailureContract):
    pass


class TestPicklingBootstrap(InlinePickling, suite.BootstrapContract):
    pass


class TestPicklingStream(InlinePickling, suite.StreamContract):
    #: As above.
    test_an_item_arrives_while_the_generator_still_runs = None
    test_an_item_that_was_not_waited_for_is_found_behind_a_generator_that_went_on = None


class TestPicklingMap(InlinePickling, suite.MapContract):
    pass


class TestPickling(InlinePickling, suite.PicklingContract):
    #: The worker is here: what has been imported here is imported there.
    test_the_worker_is_elsewhere = None
    test_code_that_only_fails_to_import_in_the_worker_is_explained = None
