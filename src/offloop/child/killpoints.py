"""Kill-points: for tests, a process that dies right at a named step of the protocol.

With the environment variable `KILL_AT` set to ``worker:noted``, say, a worker
process kills itself (SIGKILL) when it has noted which task it is about to run;
``worker:noted:3`` is the third time that this process does so.  With `ONCE` set to
a path, there is one such death in all: whoever dies first leaves a file there,
and nobody dies while it exists.

While `KILL_AT` is not set, this module is not even loaded.  Where it is,
`install` puts functions in the place of those that `STEPS` names, before anything
else happens: what runs otherwise is free of looks at kill-points.
"""

from __future__ import annotations

import os
import sys

from offloop.child import KILL_AT
from offloop.child.lowlevel import signals
from offloop.shm.ledger import CONTROL, GENERATION, LENGTH
from offloop.wire.frames import CANCELLED, EXITED, LENT, LOANS, READY, REPORT, RESULT, RETURNED, STOP, TASKS

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: Given the original function and what to call at the step: what takes the function's place.
    Change = Callable[[Callable[..., Any], Callable[[], None]], Callable[..., Any]]

#: The file that allows for one death in all.
ONCE = "OFFLOOP_KILL_ONCE"


def _always(*_: Any) -> bool:
    return True


def _before(is_meant: Callable[..., bool] = _always) -> Change:
    """Die before the function is called, if its arguments are meant."""

    def change(function: Callable[..., Any], reached: Callable[[], None]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_meant(*args):
                reached()
            return function(*args, **kwargs)

        return call

    return change


def _after(is_meant: Callable[..., bool] = _always) -> Change:
    """Die when the function has returned, if its result and arguments are meant."""

    def change(function: Callable[..., Any], reached: Callable[[], None]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if is_meant(result, *args):
                reached()
            return result

        return call

    return change


def _at_store(index: int, is_meant: Callable[[int], bool] = _always) -> Change:
    """Die before the object that is made here stores a word of the ledger."""

    def change(function: Callable[..., Any], reached: Callable[[], None]) -> Callable[..., Any]:
        def make(self: Any, *args: Any, **kwargs: Any) -> None:
            function(self, *args, **kwargs)
            self._words = _Words(self._words, index, is_meant, reached)

        return make

    return change


class _Words:
    """The ledger's words."""

    def __init__(
        self, words: Any, index: int, is_meant: Callable[[int], bool], reached: Callable[[], None]
    ) -> None:
        self._words, self._index = words, index
        self._is_meant, self._reached = is_meant, reached

    def __getitem__(self, index: int) -> int:
        word: int = self._words[index]
        return word

    def __setitem__(self, index: int, value: int) -> None:
        if index == self._index and self._is_meant(value):
            self._reached()
        self._words[index] = value


def _halfway(function: Callable[..., Any], reached: Callable[[], None]) -> Callable[..., Any]:
    """Die when the socket of the object that is made here has sent half of a message."""

    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        function(self, *args, **kwargs)
        self._sock = _Halfway(self._sock, reached)

    return make


class _Halfway:
    """The data socket."""

    def __init__(self, sock: Any, reached: Callable[[], None]) -> None:
        self._sock, self._reached = sock, reached

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: Any, flags: int) -> None:
        half = len(data) // 2
        self._sock.sendall(data[:half], flags)
        self._reached()
        self._sock.sendall(data[half:], flags)


def _says(kind: int) -> Callable[..., bool]:
    """Whether a whole frame that is the first argument is of this kind."""

    def is_meant(_: Any, data: bytes, *__: Any) -> bool:
        return data[2] == kind

    return is_meant


def _of_kind(kind: int) -> Callable[..., bool]:
    """Whether the first argument is this kind of frame."""

    def is_meant(_: Any, first: int, *__: Any) -> bool:
        return first == kind

    return is_meant


def _then(is_meant: Callable[..., bool]) -> Callable[..., bool]:
    """The same, where the result comes before the arguments."""

    def is_meant_then(_: Any, *arguments: Any) -> bool:
        return is_meant(*arguments)

    return is_meant_then


def _is_zero(value: int) -> bool:
    return value == 0


def _something(result: Any, *_: Any) -> bool:
    return bool(result)


def _has_tasks(records: Any, *_: Any) -> bool:
    return any(record[0] in TASKS for record in records or ())


def _notes_task(_: Any, slot: int, id: int, *__: Any) -> bool:
    return bool(id) and not slot


def _notes_async_task(_: Any, slot: int, id: int, *__: Any) -> bool:
    return bool(id and slot)


def _notes_its_end(_: Any, slot: int, id: int, *__: Any) -> bool:
    return bool(slot) and not id


def _has_descriptor(part: Any) -> bool:
    return bool(part.fd >= 0)


def _has_loans(exchange: Any, **_: Any) -> bool:
    return bool(exchange._ended)


def _tells_of_loans(_: Any, news: bytes, *__: Any) -> bool:
    return bool(news) and news[2] == LOANS


def _is_stop(_: Any, record: Any) -> bool:
    return bool(record[0] == STOP)


def _is_lent(laid_out: Any, *_: Any) -> bool:
    return bool(laid_out[0] & LENT)


_PORT = "offloop.child.port:SocketPort."
_RUNNER = "offloop.child.runner:Runner."
_TURNS = "offloop.child.turns:Turns."
_CONTROL = "offloop.child.control:Control."
_OUTLET = "offloop.child.outlet:Outlet."
_EXCHANGE = "offloop.child.exchange:Exchange."
_TEMPLATE = "offloop.child.template:Template."
_LINK = "offloop.contexts.process_link:ProcessLink."
_STARTED = "offloop.contexts.template:TemplateProcess."
_HANDLE = "offloop.handle:WorkerHandle."

#: Every step of the protocol, in the order in which a process passes it, as a rule: the function
#: at which it is, and how.
STEPS: dict[str, tuple[str, Change]] = {
    # The template, from its start to the report of a worker's end.
    "template:started": ("offloop.child.template:_serve", _before()),
    "template:configured": ("offloop.child.template:configure", _after()),
    "template:asked": (_TEMPLATE + "_spawn", _before()),
    "template:forking": ("os:fork", _before()),
    "template:forked": (_TEMPLATE + "_announce", _before()),
    "template:announced": (_TEMPLATE + "_announce", _after()),
    "template:preloading": ("offloop.child.template:preload_for_workers", _before()),
    "template:preloaded": ("offloop.child.template:preload_for_workers", _after()),
    "template:reaping": (_TEMPLATE + "_reap", _before()),
    "template:reaped": (_TEMPLATE + "_say", _before(_says(EXITED))),
    "template:told": (_TEMPLATE + "_say", _after(_then(_says(EXITED)))),
    # A worker: its start,
    "worker:forked": (_TEMPLATE + "_become_worker", _before()),
    "worker:begun": ("offloop.child.template:run_worker", _before()),
    "worker:listening": (_CONTROL + "start", _after()),
    "worker:told": (_PORT + "receive_setup", _after()),
    "worker:equipped": ("offloop.child.setup:run_bootstrap", _after()),
    "worker:ready": (_PORT + "say", _after(_then(_of_kind(READY)))),
    # one task,
    "worker:received": (_PORT + "receive", _after(_has_tasks)),
    "worker:turn": (_TURNS + "begin", _after(_something)),
    "worker:noted": (_PORT + "running", _after(_then(_notes_task))),
    "worker:loaded": (_PORT + "load", _after()),
    "worker:returned": (_RUNNER + "report", _before()),
    "worker:pickled": (_PORT + "_write", _before(_of_kind(RESULT))),
    "worker:written": (_PORT + "__init__", _at_store(LENGTH, bool)),
    "worker:journalled": (_PORT + "_write", _after(_then(_of_kind(RESULT)))),
    "worker:failing": (_RUNNER + "report_failure", _before()),
    "worker:failed": (_PORT + "failure", _after()),
    # what it has finished,
    "worker:sending": (_PORT + "__init__", _halfway),
    "worker:sent": (_PORT + "__init__", _at_store(LENGTH, _is_zero)),
    "worker:emptied": (_PORT + "__init__", _at_store(GENERATION)),
    "worker:flushed": (_PORT + "flush", _after()),
    # a large result, through a segment, or in its argument's memory,
    "worker:laid-out": (_PORT + "_send_large", _before()),
    "worker:announced": ("offloop.child.layout:WithDescriptor.close", _before(_has_descriptor)),
    "worker:copied": ("offloop.child.layout:Copy.advance", _after()),
    "worker:lent": (_PORT + "_send_large", _after()),
    "worker:borrowed": (_EXCHANGE + "open", _after()),
    "worker:giving": (_EXCHANGE + "hand_over", _after(_something)),
    "worker:given": ("offloop.shm.imports:Borrowed.end_hand_over", _after()),
    "worker:loan-ended": (_EXCHANGE + "settle", _before(_has_loans)),
    "worker:loan-told": (_PORT + "_send_outcomes", _after(_then(_tells_of_loans))),
    # what a running task says, and a stream,
    "worker:item": (_PORT + "item", _before()),
    "worker:item-sent": (_PORT + "item", _after()),
    "worker:reporting": (_OUTLET + "send", _before(_says(REPORT))),
    "worker:uncounted": (_OUTLET + "__init__", _at_store(CONTROL)),
    "worker:reported": (_OUTLET + "send", _after(_then(_says(REPORT)))),
    # an async task,
    "worker:async-noted": (_PORT + "running", _after(_then(_notes_async_task))),
    "worker:async-begun": ("offloop.child.overlap:Overlap._begin_async", _after()),
    "worker:async-ended": (_PORT + "running", _before(_notes_its_end)),
    # cancelling and taking back,
    "worker:asked": (_CONTROL + "_handle", _before()),
    "worker:taken-back": (_TURNS + "take_back", _after(_something)),
    "worker:returning": (_OUTLET + "send", _after(_then(_says(RETURNED)))),
    "worker:marked": (_TURNS + "request_cancel", _after(_something)),
    "worker:signalled": (_TURNS + "interrupt", _before()),
    "worker:cancelling": (_PORT + "cancelled", _before()),
    "worker:cancelled": (_PORT + "_write", _after(_then(_of_kind(CANCELLED)))),
    # and its end.
    "worker:stopping": (_RUNNER + "other", _before(_is_stop)),
    "worker:closing": (_RUNNER + "close", _before()),
    "worker:said-goodbye": (_RUNNER + "close", _after()),
    "worker:leaving": ("offloop.child.template:leave", _before()),
    # The parent: a worker's start,
    "parent:opened": ("offloop.contexts.process_link:open_ends", _after()),
    "parent:set-up": ("offloop.contexts.sending:Sender.setup", _after()),
    "parent:launched": ("offloop.contexts.template:launch", _after()),
    "parent:launched-alone": ("offloop.contexts.starters:launch", _after()),
    "parent:asked": (_STARTED + "spawn", _after()),
    "parent:started": (_LINK + "spawned", _before()),
    "parent:watching": (_LINK + "spawned", _after()),
    "parent:ready": (_HANDLE + "link_ready", _before()),
    # tasks,
    "parent:sending": ("offloop.contexts.sending:Sender.send", _before()),
    "parent:sent": ("offloop.contexts.sending:Sender.send", _after()),
    "parent:laid-out": (_EXCHANGE + "lay_out", _after(_is_lent)),
    "parent:announced": ("offloop.child.layout:WithDescriptor.close", _before(_has_descriptor)),
    "parent:copied": ("offloop.child.layout:Copy.advance", _after()),
    "parent:taking-back": (_LINK + "recall", _before()),
    "parent:cancelling": (_LINK + "cancel", _before()),
    "parent:cancelled": (_LINK + "cancel", _after()),
    # outcomes,
    "parent:heard": ("offloop.contexts.control_line:ControlLine._hear", _before()),
    "parent:received": ("offloop.contexts.inlet:Inlet.receive", _after()),
    "parent:borrowed": (_EXCHANGE + "open", _after()),
    "parent:result": (_HANDLE + "link_result", _before()),
    "parent:delivered": (_LINK + "_deliver", _after()),
    "parent:loan-ended": (_EXCHANGE + "settle", _before(_has_loans)),
    "parent:loan-told": ("offloop.contexts.lending:Lending._settle", _after()),
    # and a worker's end.
    "parent:saw-end": (_LINK + "_process_ended", _before()),
    "parent:settling": (_LINK + "_finish", _before()),
    "parent:settled": (_HANDLE + "link_exited", _after()),
    "parent:stopping": (_LINK + "stop", _before()),
    "parent:stopped": (_LINK + "stop", _after()),
    "parent:letting-go": (_STARTED + "_close", _before()),
    "parent:let-go": (_STARTED + "_close", _after()),
}


def install(*kinds: str) -> None:
    """Prepare this process, and those it forks, to die where `KILL_AT` says so.

    Args:
        kinds: what these processes are: "template", "worker", "parent".  Steps of others are left alone.

    Raises:
        ValueError: there is no such step.
    """
    wanted = os.environ[KILL_AT]
    kind, _, rest = wanted.partition(":")
    step, _, count = rest.partition(":")
    count = count or "1"
    if f"{kind}:{step}" not in STEPS or not count.isdecimal():
        raise ValueError(f"{KILL_AT}={wanted}: there is no such step")
    if kind not in kinds:
        return
    target, change = STEPS[f"{kind}:{step}"]
    module, _, path = target.partition(":")
    __import__(module)
    owner: Any = sys.modules[module]
    *owners, attribute = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    template = os.getpid() if kind == "template" else 0
    setattr(owner, attribute, change(getattr(owner, attribute), _Countdown(int(count), template)))


class _Countdown:
    """Dies when it is called for the n-th time; in one process only, where ``pid`` is not 0."""

    def __init__(self, count: int, pid: int) -> None:
        self._left = count
        self._pid = pid

    def __call__(self) -> None:
        if self._pid and os.getpid() != self._pid:
            return
        self._left -= 1
        if self._left == 0:
            _die()


def _die() -> None:
    path = os.environ.get(ONCE)
    if path:
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return
        os.write(fd, str(os.getpid()).encode())
    os.kill(os.getpid(), signals.SIGKILL)
