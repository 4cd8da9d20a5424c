"""What leaves a thread behind that a worker's end waits for."""

from __future__ import annotations

import threading

from support import tasks


def start_thread_at(gate: str) -> None:
    """Start a thread that waits at a gate."""
    threading.Thread(target=tasks.pass_gate, args=(gate,)).start()


class LingersAndFails:
    """A bootstrap that starts one, and fails."""

    def __init__(self, gate: str) -> None:
        self.gate = gate

    def __call__(self, environment: object) -> None:
        start_thread_at(self.gate)
        raise ValueError("it can not")
