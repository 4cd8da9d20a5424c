"""A process dies at each step of the protocol: it costs the task that ran there, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest
from support import dying_parents
from support.conversing import Conversation
from support.gates import Log
from support.scripts import SCRIPT_BOUND, script_environment

from offloop import ProcessWorkerFactory, WorkerPool
from offloop.child import KILL_AT
from offloop.child.killpoints import ONCE, STEPS, install
from offloop.child.port import SocketPort
from offloop.scheduling import prefetch

#: The steps of a worker at which a task is lost: it had begun, and its outcome was not written down.
#: At all others it had not begun, or had ended.
COSTLY = set(
    """
    noted loaded returned pickled written failing laid-out announced copied borrowed giving given
    item item-sent reporting reported async-noted async-begun
    """.split()
)
#: At these, what runs is about to be cancelled, or not yet; or a result is on its way, or none.
EITHER = {"asked", "uncounted", "taken-back", "returning", "loan-ended", "loan-told"}
#: What is sent later on may be a large result, whose task counts as running until all of it is sent.
SENDING = {"sending", "sent", "emptied", "flushed"}
#: Later passings of some steps, when tasks lie in front and behind.
LATER = [
    *("worker:sending:2", "worker:sending:4", "worker:noted:3", "worker:journalled:3", "worker:received:2"),
    *("worker:sent:2", "worker:emptied:3", "worker:turn:4", "worker:flushed:5", "template:announced:2"),
    *("template:asked:2", "template:forking:2", "template:told:2"),
]
DEATHS = [step for step in [*STEPS, *LATER] if not step.startswith("parent:")]


@pytest.fixture
def once(tmp_path: Path) -> Path:
    """The file that says who died."""
    return tmp_path / "died"


def allowed(step: str) -> set[int]:
    """How many tasks may be lost when a process dies at this step."""
    kind, name = step.split(":")[:2]
    if kind == "template":  # its workers die with it
        return {0, 1, 2}
    if name in EITHER or (name in SENDING and step in LATER):
        return {0, 1}
    return {int(name in COSTLY)}


@pytest.mark.parametrize("step", DEATHS)
async def test_a_death_costs_what_ran_there_and_nothing_else(
    step: str, once: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "TARGET", float("inf"))
    factory = ProcessWorkerFactory(env={KILL_AT: step, ONCE: str(once)})
    async with WorkerPool(2, factory=factory) as pool:
        conversation = Conversation(pool, log, is_async="async" in step)
        await conversation.speak()
        await conversation.be_innocent()
    assert once.exists(), "nobody came by that step"
    assert conversation.lost() in allowed(step)
    assert pool._dispatcher.outstanding == 0
    counts = pool.statistics()
    assert counts.submitted == len(conversation.executions)


#: Where the parent's part is another one with workers that are started one by one.
ALONE = ["parent:opened", "parent:launched-alone", "parent:watching", "parent:sent", "parent:saw-end"]
PARENTS = [step for step in STEPS if step.startswith("parent:") and step != "parent:launched-alone"]
GROUPS = [*(("template", PARENTS[at::3]) for at in range(3)), ("exec", ALONE)]


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are handed to init")
@pytest.mark.parametrize(("start_method", "steps"), GROUPS, ids=["1", "2", "3", "exec"])
def test_a_parent_that_dies_leaves_nobody_behind(start_method: str, steps: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", dying_parents.__name__, str(tmp_path), start_method, *steps],
        env=script_environment(),
        stdout=subprocess.PIPE,
        timeout=SCRIPT_BOUND,
        check=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [step for step, *_ in told] == steps
    for step, code, _, lines in told:
        assert code == -signal.SIGKILL, f"nobody came by {step}"
        begun = [line for line in lines if line.startswith("start")]
        assert len(set(begun)) == len(begun), f"a task ran twice at {step}"
    if start_method == "template":
        assert max(orphans for _, _, orphans, _ in told) == 3, "a template and two workers"


@pytest.mark.parametrize("step", STEPS)
def test_the_function_of_each_step_exists(step: str) -> None:
    module, _, path = STEPS[step][0].partition(":")
    assert callable(attrgetter(path)(import_module(module)))


@pytest.mark.parametrize("kind", ["template", "worker", "parent"])
def test_a_step_that_does_not_exist_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (f"{kind}:no-such-step", kind, "", f"{kind}:sent:x"):
        monkeypatch.setenv(KILL_AT, wrong)
        with pytest.raises(ValueError, match="there is no such step"):
            install(kind)


def test_what_is_not_to_die_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SocketPort.flush
    monkeypatch.setenv(KILL_AT, "worker:flushed")
    install("parent")
    assert SocketPort.flush is before
