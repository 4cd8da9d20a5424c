"""The codec to a worker that is a process of its own: bare, its ``__main__`` not the parent's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REMOTE = r'''
import pickle, struct, subprocess, sys
from offloop.contexts.imports import importable
from offloop.wire.codec import Encoder, ReplyDecoder
from offloop.wire.definitions import Definitions

WORKER = """
import pickle, sys
sys.path[:] = PATH
from offloop.wire.codec import Decoder, ReplyEncoder
decoder = Decoder()
encoder = ReplyEncoder(decoder)
while True:
    try:
        kind, number, data = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    if kind == "define":
        decoder.define(number, data)
    elif kind == "forget":
        decoder.forget(number)
    else:
        fn, args = decoder.resolve(number) if number else None, decoder.decode(data)
        if not number:
            fn, *args = args
        reply = encoder.encode(fn(*args))
        pickle.dump(reply, sys.stdout.buffer)
        sys.stdout.buffer.flush()
"""

class Remote:
    def __init__(self, capacity=1000):
        code = WORKER.replace("PATH", repr(sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.definitions = Definitions(importable, capacity)
        self.encoder = Encoder(
            self.definitions, lambda n, p: self.write("define", n, p), lambda n: self.write("forget", n, b""))
        self.decoder = ReplyDecoder(self.definitions)

    def write(self, *message):
        pickle.dump(message, self.process.stdin)

    def __call__(self, fn, *args):
        number = self.encoder.reference(fn)
        self.write("task", number, self.encoder.encode(args if number else (fn, *args)))
        self.process.stdin.flush()
        return self.decoder.decode(pickle.load(self.process.stdout))

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0
        self.process.stdout.close()
'''


def run_main(folder: Path, source: str) -> None:
    """Run a script, which asserts for itself, with a worker named ``remote``."""
    (folder / "remote_worker.py").write_text(REMOTE)
    head = "from remote_worker import Remote\nremote = Remote()\n"
    (folder / "script.py").write_text(head + textwrap.dedent(source) + "\nremote.close()\nprint('done')\n")
    # What runs the tests, and its packages, by paths that the script passes on to its worker.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(folder / "script.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


HEAD = """
import abc, asyncio, collections, dataclasses, enum, functools, math, typing
import concurrent.futures
FACTOR = 4
"""

PROGRAMS = {
    "functions": """
FACTOR = 3
def scale(x): return x * FACTOR
assert remote(scale, 2) == 6
FACTOR = 4
assert remote(scale, 2) == 8
assert remote(lambda x: math.floor(x) + scale(1), 2.5) == 6

async def coroutine(x): return x + FACTOR
assert remote(lambda: asyncio.run(coroutine(1))) == 5
def generator(n): yield from range(n)
assert remote(lambda: list(generator(3))) == [0, 1, 2]
@functools.cache
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
assert remote(fib, 50) == 12586269025
assert remote(lambda: concurrent.futures.Future.__name__) == "Future"
assert remote(functools.partial(lambda a, b: a - b, b=1), 3) == 2

counter = [0]
def count():
    counter[0] += 1
    return counter[0]
assert [remote(count) for _ in range(2)] == [1, 1]
counter[0] = 10
assert remote(count) == 11
""",
    "dataclasses and enums": """
@dataclasses.dataclass
class Row:
    name: str
    values: list = dataclasses.field(default_factory=list)
    def total(self): return sum(self.values) * FACTOR
row = remote(lambda row: dataclasses.replace(row, name="new"), Row("old", [1, 2]))
assert type(row) is Row and row == Row("new", [1, 2])
assert remote(Row.total, row) == 12
assert remote(row.total) == 12
assert remote(lambda row: (isinstance(row, Row), Row), row) == (True, Row)
def patched(self): return -1
Row.total = patched
assert remote(row.total) == -1
assert Row.total is patched

class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2
assert remote(lambda level: level is Level.HIGH, Level.HIGH) is True
assert remote(lambda: Level.LOW) is Level.LOW
class Mark(enum.Enum):
    MISSING = object()
    HALF = (lambda x: x / 2,)
    def __call__(self, x): return self.value[0](x)
assert remote(lambda mark: mark is Mark.MISSING, Mark.MISSING) is True
assert remote(lambda: Mark.MISSING) is Mark.MISSING
assert remote(Mark.HALF, 3) == 1.5

Pair = collections.namedtuple("Pair", "a b")
assert type(remote(lambda pair: pair._replace(a=5), Pair(1, 2))) is Pair
class Typed(typing.NamedTuple):
    a: int
assert remote(lambda t: t.a, Typed(1)) == 1
""",
    "classes with slots": """
class Plain:
    __slots__ = ("x", "__own")
    def __init__(self, x): self.x, self.__own = x, -x
    def own(self): return self.__own
@dataclasses.dataclass(slots=True)
class Row:
    x: int
class Mixin:
    __slots__ = ()
class Mixed(Mixin):
    __slots__ = "x"
    def __init__(self, x): self.x = x
class Broken(Exception):
    __slots__ = ("x",)
    def __init__(self, x):
        super().__init__(x)
        self.x = x
for cls in (Plain, Row, Mixed, Broken):
    made = remote(cls, 1)
    assert type(made) is cls and made.x == 1
    assert remote(lambda value: value, made).x == 1
    assert remote(lambda value: hasattr(value, "__dict__"), made) is hasattr(made, "__dict__")
assert remote(lambda: Plain(1).own()) == -1
""",
    "classes of all kinds": """
class Meta(type):
    def __call__(cls, *args):
        obj = super().__call__(*args)
        obj.made_by = "meta"
        return obj
class WithMeta(metaclass=Meta):
    def __init__(self, x): self.x = x
made = remote(WithMeta, 1)
assert type(made) is WithMeta and made.made_by == "meta"

class Abstract(abc.ABC):
    @abc.abstractmethod
    def run(self): ...
class Concrete(Abstract):
    __slots__ = ("x",)
    def __init__(self, x):
        super().__init__()
        self.x = x
    @property
    def double(self): return self.x * 2
    @classmethod
    def make(cls, x): return cls(x)
    @staticmethod
    def helper(x): return x + 1
    def run(self): return self.helper(self.double)
assert remote(Concrete.make, 2).run() == 5
assert remote(Concrete(2).run) == 5
assert remote(lambda x: isinstance(x, Abstract), Concrete(1)) is True

T = typing.TypeVar("T")
class Box(typing.Generic[T]):
    def __init__(self, item: T): self.item = item
class IntBox(Box[int]): pass
assert type(remote(IntBox, 1)) is IntBox

class Trouble(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code
def give(): return Trouble(5)
assert type(remote(give)) is Trouble
""",
    "abstract base classes of the standard library": """
from collections import abc
from collections.abc import Mapping, Sequence
import os.path
class Pair(Sequence):
    def __init__(self, *items): self.items = items
    def __getitem__(self, index): return self.items[index]
    def __len__(self): return len(self.items)
assert remote(lambda value: isinstance(value, Sequence), [1]) is True
assert remote(lambda value: isinstance(value, abc.Mapping), {}) is True
assert remote(lambda value: list(reversed(value)), Pair(1, 2)) == [2, 1]
assert remote(lambda: (Mapping, os.path)) == (Mapping, os.path)
""",
    "classes that hold methods of their own": """
class Base:
    @classmethod
    def of_base(cls): return cls.__name__
class Shape(Base):
    @classmethod
    def make(cls, x=0): return cls(x)
    def __init__(self, x): self.x = x
    def get(self): return self.x
Shape.makers = {"make": Shape.make, "base": Shape.of_base}
Shape.default = Shape(5)
Shape.get_default = Shape.default.get
assert type(remote(lambda: Shape.makers["make"]())) is Shape
assert remote(lambda: (Shape.makers["base"](), Shape.get_default())) == ("Shape", 5)
assert remote(lambda: Shape.make.__func__ is Shape.makers["make"].__func__) is True
assert remote(Shape.make, 2).x == 2
class Square(Shape): pass
Square.makers = [Square.make, Shape.make]
assert remote(lambda: [type(make()).__name__ for make in Square.makers]) == ["Square", "Shape"]
class Child(Square): pass
Child.make_child = Child.make
assert remote(lambda: type(Child.make_child()).__name__) == "Child"
""",
    "type variables and what is like them": """
import sys
UserId = typing.NewType("UserId", int)
T, P, Ts = typing.TypeVar("T", bound="UserId"), typing.ParamSpec("P"), typing.TypeVarTuple("Ts")
if sys.version_info < (3, 12): T.__infer_variance__ = True  # as typing_extensions has it
B = typing.TypeVar("B", bound=type("Empty", (type,), {"__len__": lambda cls: 0})("Bound", (), {}))
assert remote(lambda: repr(B.__bound__)) == repr(B.__bound__)
def load(user: UserId) -> UserId: return UserId(user + 1)
assert remote(load, 1) == 2
def logged(f: typing.Callable[P, T]) -> typing.Callable[P, T]:
    def inner(*args: P.args, **kwargs: P.kwargs) -> T: return f(*args, **kwargs)
    return inner
assert remote(lambda: logged(abs)(-1)) == 1
assert remote(logged(load), 1) == 2
class Call(typing.Generic[P, T]): pass
class Many(typing.Generic[typing.Unpack[Ts]]): pass
assert remote(lambda: Call.__parameters__ == (P, T) and Many.__parameters__ == (Ts,)) is True
assert remote(lambda: [UserId, T, P, Ts]) == [UserId, T, P, Ts]
assert remote(lambda: (UserId.__module__, T.__bound__.__forward_arg__)) == ("__main__", "UserId")
if sys.version_info >= (3, 12):
    exec("type Pairs[X: int] = list[tuple[X, X]]\\ndef first(pairs: Pairs[int]) -> int: return pairs[0][0]")
    assert remote(first, [(3, 4)]) == 3
    there = remote(lambda: Pairs)
    assert (there.__name__, repr(there[str])) == ("Pairs", "Pairs[str]")
    assert [x.__bound__ for x in there.__type_params__] == [int]
    exec("type Json = dict[str, Json] | int\\nclass Cmp[X: Cmp]:\\n def f(self, x: Json): return len(x)")
    assert remote(lambda: Cmp().f({"a": 1})) == 1
if sys.version_info >= (3, 13):
    D = typing.TypeVar("D", default=int)
    assert remote(lambda: (D.has_default(), D.__default__, T.has_default())) == (True, int, False)
""",
    "classes that refer to each other": """
def outer():
    class Local:
        def again(self): return Local()
    return Local
Local = outer()
assert type(remote(lambda: Local().again())) is Local

class Left:
    def other(self): return Right()
class Right:
    def other(self): return Left()
assert type(remote(Left().other)) is Right
assert type(remote(Right().other)) is Left

class Base:
    def __init_subclass__(cls): cls.label = "sub of " + cls.__base__.__name__
    def derive(self): return Derived()
class Derived(Base):
    def derive(self): return super().derive(), __class__
    def hidden(self): return self.__secret
    def __secret(self): return FACTOR
made, cls = remote(Derived().derive)
assert type(made) is cls is Derived
assert remote(lambda: (Derived.label, Derived.__qualname__)) == ("sub of Base", "Derived")
assert remote(Derived().hidden()) == FACTOR
assert remote(lambda x: (type(x) is Base, isinstance(x, Derived)), Base()) == (True, False)
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_worker_runs_code_of_main(tmp_path: Path, program: str) -> None:
    run_main(tmp_path, HEAD + program)


def test_a_worker_sends_home_what_it_made_itself(tmp_path: Path) -> None:
    run_main(
        tmp_path,
        """
        def make():
            class Made:
                value = 3
                def get(self): return self.value
            return Made(), lambda x: x + Made.value
        made, fn = remote(make)
        assert (made.get(), fn(1)) == (3, 4)
        assert type(made).__qualname__ == "make.<locals>.Made"
        assert type(remote(lambda x: x, made)) is type(made)
        """,
    )


def test_a_worker_runs_code_of_a_module_made_by_hand(tmp_path: Path) -> None:
    run_main(
        tmp_path,
        """
        import sys, types
        module = types.ModuleType("by_hand")
        exec("import math\\nclass C: pass\\ndef g(x): return math.pi, C", vars(module))
        sys.modules["by_hand"] = module
        assert remote(module.g, 1) == (__import__("math").pi, module.C)
        assert type(remote(lambda x: x, module.C())) is module.C
        assert remote(lambda: module.g(1)[0]) > 3
        """,
    )


def test_results_are_right_in_the_face_of_eviction(tmp_path: Path) -> None:
    run_main(
        tmp_path,
        """
        remote.close()
        remote = Remote(capacity=2)
        class Kept:
            pass
        def keep(x):
            import builtins
            builtins.kept = x
        def get():
            import builtins
            return builtins.kept
        remote(keep, Kept())
        for n in range(300):
            assert remote(eval(f"lambda: {n}")) == n
        assert type(remote(get)) is Kept
        """,
    )


def test_a_worker_loads_cloudpickle_only_for_classes_that_travel_by_value(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(
        "import sys\nclass Named: pass\ndef loaded(*_): return 'cloudpickle' in sys.modules\n"
    )
    run_main(
        tmp_path,
        """
        import probe
        assert remote(probe.loaded, probe.Named(), {"a": (1, len)}, probe) is False
        assert type(remote(probe.Named)) is probe.Named
        number = 1
        def count(n): return number + count(n - 1) if n else 0
        assert remote(probe.loaded, lambda: 1, count) is False
        assert remote(count, 3) == 3
        class Local: pass
        assert remote(probe.loaded, Local) is True
        """,
    )


def test_the_codec_is_light_to_import() -> None:
    heavy = {"asyncio", "logging", "cloudpickle", "inspect", "dataclasses", "dis", "subprocess", "socket"}
    code = f"import sys; sys.path[:] = {sys.path}; import offloop.wire.codec; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert not heavy & set(result.stdout.split())
