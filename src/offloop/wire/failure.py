"""How an exception that a task raised crosses from its worker to the parent.

The worker writes down the exception and all that hangs on it (cause, context,
members of a group) as a flat list of nodes that refer to each other by number,
so that cycles and sharing survive.  Each node is pickled by itself, with its
texts beside it: one that cannot be pickled or loaded becomes a `TaskFailed`,
and harms none of the others.

Each exception's text is its own traceback only.  Whoever prints the rebuilt
exception prints its chain and its members too, so each is told once.

This module loads in workers, at their start: a task may fail because there is
no descriptor left, and then nothing could be imported to say so.
"""

from __future__ import annotations

from offloop.errors import RemoteTraceback, TaskFailed
from offloop.wire.byvalue import type_of
from offloop.wire.exceptions import members_of, pickles_itself, put_together, store, stored, take_apart
from offloop.wire.tracebacks import MAX_TEXT, cut, message_of, notes_of, own_text, type_name_of

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    #: What hangs on an exception, as numbers of nodes: cause, context, whether that is suppressed, members.
    Links: TypeAlias = tuple[int | None, int | None, bool, tuple[int | None, ...]]

#: One tuple a node, the raised exception's first: text, numbers, bytes and tuples only.
Failure: TypeAlias = "tuple[tuple[Any, ...], ...]"

#: How many links of cause, context or membership are followed.  A loop that
#: retries and chains its errors makes thousands; nobody reads further than this.
MAX_DEPTH = 50

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

# A future refuses StopIteration; the others would end the awaiting task, the
# loop over its results, or the whole program, none of which the task meant.
_CONTROL_FLOW = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)
# By name, because importing asyncio costs a worker 50 ms.
_CANCELLED = {"asyncio.exceptions.CancelledError", "concurrent.futures._base.CancelledError"}


class _Node:
    """One exception, as it was written down.

    Attributes, in the order in which `_encode` writes them:
        text: its own formatted traceback.
        raised: whether there are frames in it.
        body: its pickle, or None where it can only be told of.
        own_pickle: whether its class's own code made that pickle.
    """

    type_name: str
    message: str
    text: str
    raised: bool
    notes: tuple[str, ...]
    body: bytes | None
    own_pickle: bool
    cause: int | None
    context: int | None
    suppress_context: bool
    members: tuple[int | None, ...]

    def __init__(self, parts: tuple[Any, ...]) -> None:
        vars(self).update(zip(_Node.__annotations__, parts, strict=True))


def encode_failure(
    error: BaseException, dumps: Callable[[object], bytes], loads: Callable[[bytes], object]
) -> Failure:
    """Write down an exception that a task raised, in its worker.

    Whatever the exception's own code does meanwhile (raise, exit, recurse) is
    contained: it costs that exception its object, never its texts.

    Args:
        error: the exception, with its traceback, as it was caught.
        dumps: pickles a user's object; it may raise anything.
        loads: its inverse.  Only an exception with pickling code of its own is
            loaded here once, so that one which crashes when it is loaded
            crashes its worker, and not the parent.

    Returns:
        Plain tuples of text, numbers and bytes, for `decode_failure`.  Texts
        are cut at `MAX_TEXT` characters each, chains at `MAX_DEPTH` links.
    """
    found, links = _collect(error)
    return tuple(_encode(one, its, dumps, loads) for one, its in zip(found, links, strict=True))


def decode_failure(failure: Failure, loads: Callable[[bytes], object]) -> BaseException:
    """Make the exception to raise in the parent.

    Args:
        failure: what `encode_failure` returned.
        loads: loads a user's object; it may raise anything.

    Returns:
        The task's exception, its ``__cause__`` a `RemoteTraceback` whose own
        cause (or context, where that is to be printed) is the original one; or
        a `TaskFailed` where it can't be rebuilt or `is_control_flow`.

    Raises:
        KeyboardInterrupt: it came while loading, which is a Ctrl-C.  Anything
            else that `loads` raises makes a `TaskFailed`.
    """
    return _Decoder(failure, loads).decode()


def is_control_flow(cls: type) -> bool:
    """Whether exceptions of this class would act on whoever awaits the task, as no task may.

    True of SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration,
    StopAsyncIteration, asyncio's and concurrent.futures' CancelledError, and
    their subclasses.
    """
    bases = type.__getattribute__(cls, "__mro__")  # a metaclass may do anything
    return issubclass(cls, _CONTROL_FLOW) or any(type_name_of(base) in _CANCELLED for base in bases)


def _collect(root: BaseException) -> tuple[list[BaseException], list[Links]]:
    """All that hangs on this exception, nearest first, and how it hangs together."""
    found, depths, numbers = [root], [0], {id(root): 0}

    def number(error: BaseException | None, depth: int) -> int | None:
        if error is None or (id(error) not in numbers and depth > MAX_DEPTH):
            return None
        if id(error) not in numbers:
            numbers[id(error)] = len(found)
            found.append(error)
            depths.append(depth)
        return numbers[id(error)]

    links: list[Links] = []
    for error in found:  # which grows meanwhile
        depth = depths[len(links)] + 1
        cause = number(stored(error, "__cause__"), depth)
        context = number(stored(error, "__context__"), depth)
        members = tuple(number(member, depth) for member in members_of(error))
        links.append((cause, context, bool(stored(error, "__suppress_context__")), members))
    return found, links


def _encode(
    error: BaseException, links: Links, dumps: Callable[[object], bytes], loads: Callable[[bytes], object]
) -> tuple[Any, ...]:
    type_name = type_name_of(type(error))
    message = message_of(error)
    text, raised = own_text(error, type_name, message)
    body, own_pickle = None, False
    try:
        if None not in links[3]:  # else a group lacks some
            own_pickle = pickles_itself(type(error))
            body = dumps(error if own_pickle else take_apart(error))
            if own_pickle:
                loads(body)
    except BaseException:  # user code: it may exit, or worse
        body = None
    return (type_name, message, text, raised, notes_of(error), body, own_pickle, *links)


class _Decoder:
    def __init__(self, failure: Failure, loads: Callable[[bytes], object]) -> None:
        self._nodes = [_Node(node) for node in failure]
        self._loads = loads
        self._built: dict[int, BaseException] = {}

    def decode(self) -> BaseException:
        for i in range(len(self._nodes)):
            self._build(i)
        for i in range(len(self._nodes)):
            self._link(i)
        return self._built[0]

    def _build(self, i: int) -> BaseException:
        if i not in self._built:
            error = self._load(i)
            self._built[i] = self._stand_in(i) if error is None else error
        return self._built[i]

    def _load(self, i: int) -> BaseException | None:
        """The exception itself, or None where there is none that may be handed over."""
        node = self._nodes[i]
        if node.body is None:
            return None
        try:
            error: Any = self._loads(node.body)
            if node.own_pickle:
                self._adopt_members(node, error)
            else:
                error = put_together(error, [self._build(m) for m in node.members if m is not None])
            cls = type_of(error)
            fit = issubclass(cls, BaseException) and not (i == 0 and is_control_flow(cls))
        except KeyboardInterrupt:
            raise
        except BaseException:  # user code: it may exit, or worse
            return None
        return error if fit else None

    def _adopt_members(self, node: _Node, error: Any) -> None:
        """A group that pickled itself brought its members along: they are the ones to link."""
        members = members_of(error)
        if len(members) == len(node.members):
            for m, member in zip(node.members, members, strict=True):
                if m is not None:
                    self._built.setdefault(m, member)

    def _stand_in(self, i: int) -> TaskFailed:
        node = self._nodes[i]
        return TaskFailed(node.type_name, node.message, cut(self._whole_text(i, set())))

    def _link(self, i: int) -> None:
        """Give an exception its notes, cause and context, and its traceback as a `RemoteTraceback`."""
        error, node = self._built[i], self._nodes[i]
        if node.notes:
            stored(error, "__dict__").setdefault("__notes__", list(node.notes))
        cause = None if node.cause is None else self._built[node.cause]
        context = None if node.context is None else self._built[node.context]
        if i == 0 or node.raised:  # a cause made on the spot, never raised, has nothing to tell
            remote = RemoteTraceback(node.text)
            _chain(remote, cause, context, node.suppress_context)
            cause = remote
        _chain(error, cause, context, node.suppress_context)

    def _whole_text(self, i: int, told: set[int]) -> str:
        """An exception's text with those of its chain and members, each told once."""
        parts: list[str] = []
        following: int | None = i
        while following is not None:
            told.add(following)
            node = self._nodes[following]
            parts.append(node.text + self._members_text(node.members, told))
            following, between = node.cause, _CAUSE
            if following is None and not node.suppress_context:
                following, between = node.context, _CONTEXT
            if following in told:
                following = None
            if following is not None:
                parts.append(between)
        return "".join(reversed(parts))

    def _members_text(self, members: tuple[int | None, ...], told: set[int]) -> str:
        text = ""
        for position, m in enumerate(members, 1):
            if m is not None and m not in told and len(text) < MAX_TEXT:
                text += f"  Sub-exception {position} of {len(members)}:\n"
                lines = self._whole_text(m, told).splitlines(keepends=True)
                text += "".join(f"    {line}" for line in lines)
        return text


def _chain(
    error: BaseException, cause: BaseException | None, context: BaseException | None, suppress: bool
) -> None:
    store(error, "__cause__", cause)
    store(error, "__context__", context)
    store(error, "__suppress_context__", suppress)  # last: setting a cause sets it
