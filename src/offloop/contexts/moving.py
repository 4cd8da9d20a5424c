"""Workers that begin in interpreters, and move to processes where code does not bear interpreters.

An extension module may refuse every interpreter but the main one.  A task that
meets such a module while it is loaded has not begun: it goes back to where it
waited, and the worker moves.  A process takes its place, under the same number
and for the same owner; the interpreter finishes what it had begun, and ends.
From then on the pool's new workers are processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, cast

from offloop.child.keeping import Failures
from offloop.child.refusals import is_refusal
from offloop.contexts.interpreter import InterpreterContext
from offloop.contexts.process import ProcessContext
from offloop.contexts.relay import Relay
from offloop.link import Context, Exit, Link, LinkOwner, S, Sendable
from offloop.wire.exceptions import add_note

_TOO_LATE = (
    'This ran in an interpreter that factory="auto" picked, and had begun when the module refused. '
    'Those that follow run in a process; with factory="process" all do.'
)
_HELD = (
    'The worker that this lease holds is in an interpreter that factory="auto" picked, and its '
    'environment can\'t move to a process.  With factory="process" all workers are processes.'
)


class MovingContext(Context):
    """Interpreters, until something refuses them; then processes.

    Args:
        interpreters: the context of the former.
        processes: makes that of the latter, once, when it is needed.
    """

    def __init__(self, interpreters: InterpreterContext, processes: Callable[[], ProcessContext]) -> None:
        self.slots = interpreters.slots
        self.interpreters = interpreters
        self._make_processes = processes
        self._processes: ProcessContext | None = None

    @property
    def processes(self) -> ProcessContext:
        """The processes; asking for them makes them the context of all new workers."""
        if self._processes is None:
            self._processes = self._make_processes()
        return self._processes

    def connect(self, number: int, owner: LinkOwner) -> Link:
        """A link to a new worker, which may move if it is in an interpreter."""
        if self._processes is not None:
            return self._processes.connect(number, owner)
        return MovingLink(self, number, owner)

    def pack(self, value: Any) -> bytes:
        """A message to a running task, the same in both."""
        return self.interpreters.pack(value)

    def weigh(self, link: Link, is_on: bool) -> None:
        """Have a link know how many bytes each task costs, where that is a process's."""
        if isinstance(link, MovingLink):
            link.weigh(is_on)
        elif self._processes is not None:
            self._processes.weigh(link, is_on)

    async def aclose(self) -> None:
        """End what both share."""
        await self.interpreters.aclose()
        if self._processes is not None:
            await self._processes.aclose()

    def abandon(self) -> None:
        """The same without waiting."""
        self.interpreters.abandon()
        if self._processes is not None:
            self._processes.abandon()


class MovingLink(Link):
    """The parent's end of a worker that begins in an interpreter, and may move to a process.

    While it moves there are two links, of which the process's is the last: tasks
    that were sent to the interpreter are ended by that, or handed back.
    """

    def __init__(self, context: MovingContext, number: int, owner: LinkOwner) -> None:
        self._context = context
        self._number = number
        self._owner = owner
        self._there: set[int] = set()  # ids of tasks at the process, while the interpreter may have others
        self._links: list[Link] = []
        self._ever: list[Link] = []
        self._gone: list[Exit] = []
        self._was_ready = self._killed = self._weighs = False
        self._add(context.interpreters, _InInterpreter(self, owner))

    def _add(self, context: Context, side: _Side) -> Link:
        side.link = link = context.connect(self._number, side)
        self._links.append(link)
        self._ever.append(link)
        return link

    # -- moving -----------------------------------------------------------------

    def move(self) -> bool:
        """Have a process take the interpreter's place, unless a lease counts on what is in that."""
        processes = self._context.processes
        if len(self._links) == 1:
            if self._owner.link_held():
                return False
            self._begin_process(processes)
            self._links[0].stop()
        return True

    def _begin_process(self, processes: ProcessContext) -> None:
        link = self._add(processes, _InProcess(self, self._owner))
        link.start()
        processes.weigh(link, self._weighs)

    def weigh(self, is_on: bool) -> None:
        """Have a process know how many bytes each task costs."""
        self._weighs = is_on
        if len(self._ever) > 1:
            self._context.weigh(self._ever[-1], is_on)

    def ready(self, link: Link) -> None:
        """One of them takes tasks; that the second one does is no news."""
        self.pid = link.pid
        if not self._was_ready:
            self._was_ready = True
            self._owner.link_ready()

    def not_allowed(self) -> bool:
        """The interpreter could not start, as something refused it; whether a process starts instead."""
        if self._killed or self._was_ready:
            return False
        self._links.clear()
        self._begin_process(self._context.processes)
        return True

    def ended(self, link: Link, exit: Exit) -> None:
        """One of them has ended.  If not in good order, so must the other; the last one's end is the end."""
        self._gone.append(exit)
        self._there.clear()
        if len(self._links) == 1:
            self._owner.link_exited(_together(self._gone))
            return
        self._links.remove(link)
        if not exit.clean:
            self.kill()

    # -- what a link does ---------------------------------------------------------

    def start(self) -> None:
        """Start the interpreter."""
        self._links[0].start()

    def send(self, items: Sequence[S]) -> list[tuple[S, BaseException]]:
        """Send tasks: to the process, if there is one."""
        if len(self._links) > 1:
            self._there.update(item.id for item in items)
        return self._links[-1].send(items)

    def _with(self, id: int) -> Link:
        return self._links[-1 if id in self._there else 0]

    def cancel(self, items: Sequence[Sendable]) -> None:
        """Cancel tasks, each where it is."""
        for link in self._links:
            if mine := [item for item in items if self._with(item.id) is link]:
                link.cancel(mine)

    def recall(self, items: Sequence[Sendable]) -> None:
        """Take tasks back, each from where it is."""
        for link in self._links:
            if mine := [item for item in items if self._with(item.id) is link]:
                link.recall(mine)

    def stop(self) -> None:
        """Let the present one finish; an interpreter that was left has been told."""
        self._links[-1].stop()

    def kill(self) -> None:
        """End both."""
        self._killed = True
        for link in self._links:
            link.kill()

    def abandon(self) -> None:
        """End both, without the event loop."""
        for link in self._links:
            link.abandon()

    def poll(self, until: float = inf) -> None:
        """Report what has ended, here and there."""
        for link in list(self._links):
            link.poll(until)

    def running(self) -> list[tuple[int, float]]:
        """What runs, here and there."""
        return [each for link in self._links for each in link.running()]

    def is_through(self) -> bool:
        """Whether both have what they were sent."""
        return all(link.is_through() for link in self._links)

    def traffic(self) -> tuple[int, int]:
        """Bytes to both, and from both."""
        each = [link.traffic() for link in self._ever]
        return sum(sent for sent, _ in each), sum(received for _, received in each)

    def weights(self, id: int) -> tuple[int | None, int | None]:
        """Bytes of a task; unknown in an interpreter."""
        return self._with(id).weights(id)

    def tell(self, kind: int, id: int, value: Any = None) -> None:
        """Say something to a running task, where it is."""
        self._with(id).tell(kind, id, value)

    def hunger(self, id: int, is_hungry: bool) -> None:
        """Note that somebody waits, where the task is."""
        self._with(id).hunger(id, is_hungry)

    async def dump_stack(self) -> str:
        """The stack of what runs."""
        busy = [link for link in self._links if link.running()]
        return await busy[-1].dump_stack() if busy else ""


class _Side(Relay):
    """Hears one of the two links."""

    link: Link

    def __init__(self, moving: MovingLink, owner: LinkOwner) -> None:
        super().__init__(owner)
        self.moving = moving

    def link_ready(self) -> None:
        """Compare it with the other."""
        self.moving.ready(self.link)

    def link_exited(self, exit: Exit) -> None:
        """Compare it with the other."""
        self.moving.ended(self.link, exit)


class _InProcess(_Side):
    """Hears the process."""


class _InInterpreter(_Side):
    """Hears the interpreter, and of refusals."""

    def link_unloadable(self, id: int, error: BaseException, start: float, end: float) -> None:
        """A task has not begun; if something refused this interpreter, it goes elsewhere."""
        if not is_refusal(error):
            self.owner.link_unloadable(id, error, start, end)
        elif self.moving.move():
            self.owner.link_returned([id])
        else:
            add_note(error, _HELD)
            self.owner.link_unloadable(id, error, start, end)

    def link_result(self, id: int, value: Any, start: float, end: float) -> None:
        """A task has returned; that may be a map's chunk, some of whose items have failed."""
        last = cast("tuple[object, ...]", value)[-1] if type(value) is tuple and value else None
        if type(last) is Failures:
            for error in last.errors.values():
                self._look_at(error)
        self.owner.link_result(id, value, start, end)

    def link_failure(self, id: int, error: BaseException, start: float, end: float) -> None:
        """A task has failed."""
        self._look_at(error)
        self.owner.link_failure(id, error, start, end)

    def _look_at(self, error: BaseException) -> None:
        """If a task was refused something in the midst of its work, those to come move."""
        if issubclass(type(error), ImportError) and is_refusal(error):
            self.moving.move()
            add_note(error, _TOO_LATE)

    def link_exited(self, exit: Exit) -> None:
        """It may have been refused something when it started."""
        if not (is_refusal(exit.problem) and self.moving.not_allowed()):
            super().link_exited(exit)


def _together(exits: Sequence[Exit]) -> Exit:
    """How a worker ended whose parts ended so."""
    worst = next((exit for exit in exits if not exit.clean), exits[-1])
    started = [id for exit in exits for id in exit.started]
    return worst._replace(started=started, ran=sum(exit.ran for exit in exits))
