"""An exception that a task raised comes back from the worker as it was."""

from __future__ import annotations

import copyreg
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from support.failures import (
    OwnReduce,
    TwoArguments,
    cross,
    raised,
)

import offloop
from offloop.errors import (
    OffloopError,
    RemoteTraceback,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    WorkerCrashed,
)
from offloop.wire.failure import decode_failure

IMPORT = ImportError("no", name="mod", path="/mod.py")
SYNTAX = SyntaxError("bad", ("f.py", 1, 5, "x = (", 1, 6))
ZOO: list[BaseException] = [
    BaseException("b"),
    Exception(),
    ArithmeticError("a"),
    AssertionError("x", 1),
    BlockingIOError(11, "again", 7),
    BrokenPipeError(32, "pipe"),
    ChildProcessError(10, "child"),
    ConnectionResetError(104, "reset"),
    EOFError(),
    FileExistsError(17, "exists", "a"),
    FileNotFoundError(2, "gone", "/a", None, "/b"),
    FloatingPointError(),
    IMPORT,
    ModuleNotFoundError("none", name="mod"),
    IndentationError("bad", ("f.py", 2, 1, " x", 2, 2)),
    IndexError(3),
    KeyError("k"),
    LookupError(),
    MemoryError(),
    NameError("n", name="n"),
    NotADirectoryError(20, "no dir", b"bytes"),
    NotImplementedError(),
    OSError("only text"),
    OSError(None, None),
    OSError(None, "text", "f"),
    OSError(1, 2, 3, 4, 5, 6),
    OSError(),
    OverflowError(34, "range"),
    PermissionError(13, "no", "f"),
    RecursionError("deep"),
    ReferenceError(),
    RuntimeError({"a": [1]}),
    SYNTAX,
    SystemError(),
    TimeoutError(110, "late"),
    TypeError("t"),
    UnboundLocalError("u", name="u"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    UnicodeEncodeError("ascii", "\udcff", 0, 1, "bad"),
    UnicodeTranslateError("x", 0, 1, "bad"),
    ValueError(1, "two", None),
    UserWarning("w"),
    ZeroDivisionError("z"),
]
if sys.version_info >= (3, 15):
    ZOO.append(ImportCycleError("c", name="mod", path="/mod.py"))  # noqa: F821 -- a built-in since then
FIELDS = (
    "errno strerror filename filename2 characters_written name path msg lineno offset text end_lineno "
    "end_offset print_file_and_line encoding object start end reason value code"
).split()


@pytest.mark.parametrize("error", ZOO, ids=repr)
def test_every_builtin_exception_comes_back_as_it_was(error: BaseException) -> None:
    back = cross(raised(error))
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    missing = object()
    for field in FIELDS:
        assert getattr(back, field, missing) == getattr(error, field, missing), field
    assert isinstance(back.__cause__, RemoteTraceback)


def test_the_zoo_lacks_no_builtin_exception() -> None:
    here = {type(error) for error in ZOO}
    control_flow = {"SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "StopAsyncIteration"}
    elsewhere = {cls for cls in vars(__import__("builtins")).values() if isinstance(cls, type)}
    untested = {
        cls.__name__
        for cls in elsewhere - here
        if issubclass(cls, BaseException) and not issubclass(cls, (Warning, BaseExceptionGroup, OSError))
    }
    simple = {"AttributeError", "BufferError", "UnicodeError", "TabError", "PythonFinalizationError"}
    assert untested - control_flow - simple <= {"_IncompleteInputError"}


atoms = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=6
)
plain = [cls for cls in {type(error) for error in ZOO} if not issubclass(cls, UnicodeError)]


@settings(max_examples=80, deadline=None)
@given(
    cls=st.sampled_from(sorted(plain, key=lambda cls: cls.__name__)),
    args=st.lists(values, max_size=5),
    state=st.dictionaries(
        st.text(min_size=1).filter(lambda key: not key.startswith("__")), values, max_size=3
    ),
)
def test_any_arguments_and_attributes_come_back(cls: Any, args: list[Any], state: dict[str, Any]) -> None:
    try:
        error = cls(*args)
        text = str(error)
    except (TypeError, ValueError, OverflowError):
        return  # this class does not take these arguments
    error.__dict__.update(state)
    back = cross(error)
    assert (type(back), back.args, str(back), vars(back)) == (type(error), error.args, text, vars(error))


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code: int | None) -> None:
        self.code = code


class OwnFile(OSError):
    def __init__(self, path: str, why: str) -> None:
        super().__init__(2, why, path)
        self.why = why


class Mixed(KeyError, OSError):
    pass


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    detail: str = "d"


class Counted(Exception):
    calls = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        type(self).calls += 1


@pytest.mark.parametrize(
    ("error", "attribute"),
    [
        (TwoArguments(7, "x"), "code"),
        (KeywordOnly(code=3), "code"),
        (Slotted(4), "code"),
        (Slotted(None), "code"),
        (OwnFile("/f", "gone"), "filename"),
        (OwnFile("/f", "gone"), "why"),
        (Mixed(2, "x"), "errno"),
        (Frozen(5, detail="e"), "detail"),
    ],
)
def test_an_exception_whose_init_differs_from_its_args_is_rebuilt(
    error: BaseException, attribute: str
) -> None:
    back = cross(raised(error))
    assert type(back) is type(error)
    assert (back.args, str(back)) == (error.args, str(error))
    assert getattr(back, attribute) == getattr(error, attribute)
    assert isinstance(back.__cause__, RemoteTraceback)


def test_an_unset_slot_stays_unset() -> None:
    assert not hasattr(cross(Slotted(1)), "unset")


def test_rebuilding_calls_no_init() -> None:
    error = Counted("x")
    calls = Counted.calls
    assert str(cross(error)) == "x"
    assert Counted.calls == calls


def test_a_changed_args_or_errno_comes_back_changed() -> None:
    error = OSError(2, "x")
    error.args, error.errno = (9, "y", "z", "more"), 5
    back = cross(error)
    assert (type(back), back.args, back.errno) == (type(error), error.args, 5)


def test_an_attribute_error_keeps_its_name_and_leaves_its_object_behind() -> None:
    try:
        threading.Lock().nothing  # type: ignore[attr-defined]
    except AttributeError as caught:
        error = caught
    back = cross(error)
    assert (type(back), back.name, back.obj, str(back)) == (AttributeError, "nothing", None, str(error))


def test_a_class_that_exists_only_in_the_worker_crosses_by_value() -> None:
    class Local(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(a + b)

    back = cross(raised(Local(1, 2)))
    assert (type(back).__name__, back.args) == ("Local", (3,))


def test_offloops_own_errors_keep_their_facts() -> None:
    back = cross(raised(WorkerCrashed("gone", pid=7, signal="SIGSEGV")))
    assert (type(back), back.pid, back.signal, str(back)) == (WorkerCrashed, 7, "SIGSEGV", "gone")
    assert type(cross(raised(TaskCancelled()))) is TaskCancelled
    timeout = cross(raised(TaskTimeout("after 1 s")))
    assert isinstance(timeout, TimeoutError)
    assert isinstance(timeout, OffloopError)
    inner = cross(raised(TaskFailed("m.T", "text", "trace")))
    assert (inner.type_name, inner.message, inner.traceback) == ("m.T", "text", "trace")


class OwnGetState(Exception):
    def __init__(self, code: int, lock: Any) -> None:
        super().__init__("own state")
        self.code, self.lock = code, lock

    def __getstate__(self) -> dict[str, int]:
        return {"code": self.code}

    def __setstate__(self, state: Any) -> None:
        self.code, self.lock = state["code"], "a new one"


class Registered(Exception):
    pass


def test_an_own_reduce_is_used_and_notes_survive_it() -> None:
    error = raised(OwnReduce(1, "x"))
    error.add_note("remember")
    back = cross(error)
    assert (type(back), back.code, str(back), back.__notes__) == (OwnReduce, 1, "x", ["remember"])


def test_own_getstate_and_setstate_are_used() -> None:
    back = cross(raised(OwnGetState(1, threading.Lock())))
    assert (type(back), back.code, back.lock, str(back)) == (OwnGetState, 1, "a new one", "own state")


def test_a_reducer_in_copyreg_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda error: (ValueError, ("instead",)))
    assert repr(cross(Registered())) == "ValueError('instead')"


def test_a_json_error_keeps_its_position() -> None:
    try:
        json.loads("[1,")
    except json.JSONDecodeError as caught:
        error = caught
    back = cross(error)
    assert (type(back), back.pos, back.doc, str(back)) == (type(error), error.pos, "[1,", str(error))


def test_a_failure_of_another_process_comes_back(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        """
import pickle, sys, cloudpickle
from offloop.wire.failure import encode_failure

class OnlyHere(Exception):
    def __init__(self, code, detail):
        super().__init__(detail)
        self.code = code

try:
    raise OnlyHere(7, "x")
except OnlyHere as error:
    sys.stdout.buffer.write(pickle.dumps(encode_failure(error, cloudpickle.dumps, pickle.loads)))
"""
    )
    path = os.pathsep.join([str(Path(offloop.__file__).parent.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, script], check=True, capture_output=True, env={"PYTHONPATH": path}, timeout=60
    )
    back: Any = decode_failure(pickle.loads(done.stdout), pickle.loads)
    assert (type(back).__name__, back.code, str(back)) == ("OnlyHere", 7, "x")
    assert f'File "{script}", line 11, in <module>\n    raise OnlyHere(7, "x")' in back.__cause__.text
