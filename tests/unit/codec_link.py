"""Both ends of the codec in one process, and things to send over it."""

from __future__ import annotations

import enum
import textwrap
from typing import Any

from offloop.wire.codec import Decoder, Encoder, ReplyDecoder, ReplyEncoder
from offloop.wire.definitions import Definitions

limit: Any = 10


def importable(name: str) -> bool:
    """Here everything of this module and of the tests travels by value."""
    return name not in ("__main__", "made_by_hand", __name__) and not name.startswith("test_codec")


class Link:
    """Both ends of the codec, in one process, and what went over."""

    def __init__(self, definitions: Definitions | None = None, capacity: int = 1000) -> None:
        self.definitions = definitions or Definitions(importable, capacity)
        self.decoder = Decoder()
        self.defined: list[int] = []
        self.forgotten: list[int] = []
        self.encoder = Encoder(self.definitions, self._define, self._forget)
        self.reply_encoder = ReplyEncoder(self.decoder)
        self.reply_decoder = ReplyDecoder(self.definitions)

    def _define(self, number: int, payload: bytes) -> None:
        self.defined.append(number)
        self.decoder.define(number, payload)

    def _forget(self, number: int) -> None:
        self.forgotten.append(number)
        self.decoder.forget(number)

    def send(self, obj: Any) -> Any:
        return self.decoder.decode(self.encoder.encode(obj))

    def reply(self, obj: Any) -> Any:
        return self.reply_decoder.decode(self.reply_encoder.encode(obj))

    def function(self, fn: Any) -> Any:
        number = self.encoder.reference(fn)
        assert number > 0
        return self.decoder.resolve(number)


def function(source: str, **names: Any) -> Any:
    """The function ``f`` of a source, with its own globals."""
    namespace: dict[str, Any] = {"__name__": __name__, **names}
    exec(textwrap.dedent(source), namespace)
    return namespace["f"]


ADD = """
    def f(x):
        return x + K
"""


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def scaled(self) -> int:
        return self.x * limit


class Slow:
    def __init__(self, value: int) -> None:
        self.value = value


class Color(enum.Enum):
    RED = 1


class Base:
    def derive(self) -> Any:
        return Derived()


class Derived(Base):
    def name(self) -> str:
        return super().__class__.__name__ + type(self).__name__


class Left:
    def other(self) -> Any:
        return Right()


class Right:
    def other(self) -> Any:
        return Left()


def make_point(x: int) -> Point:
    return Point(x)
