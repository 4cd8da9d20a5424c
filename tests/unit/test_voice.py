"""The messages of channels, which any thread of a worker may send."""

from __future__ import annotations

import threading
from typing import Any

from offloop.child.voice import Voice
from offloop.wire.codec import Decoder


class Slow:
    """Says when it is being pickled, and goes on when told."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        self.begun.set()
        assert self.may_go_on.wait(60)
        return str, ("slow",)


def test_a_message_that_takes_long_to_pickle_holds_up_no_other_threads() -> None:
    outlet: Any = None  # nothing is sent
    voice, slow, packed = Voice(outlet, Decoder()), Slow(), []
    thread = threading.Thread(target=lambda: packed.append(voice.pack(slow)))
    thread.start()
    assert slow.begun.wait(60)
    assert b"quick" in voice.pack("quick")
    slow.may_go_on.set()
    thread.join(60)
    assert b"slow" in packed[0]
