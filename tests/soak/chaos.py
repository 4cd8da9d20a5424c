"""The soak's chaos: signals to the pool's workers, and to the template that forks them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter

import psutil

#: What is sent, and how often beside the others.
SIGNALS = {signal.SIGKILL: 4, signal.SIGSEGV: 2, signal.SIGTERM: 2, signal.SIGSTOP: 2}
#: Seconds after which a stopped process goes on.
PAUSE = 0.3


class Chaos:
    """Kills and stops.

    Args:
        every: mean seconds between two signals.
        template: how many of them go to the template, of one.
    """

    def __init__(self, every: float, template: float = 0.03) -> None:
        self._every = every
        self._template = template
        self._me = psutil.Process()
        self._stopped: set[psutil.Process] = set()
        self.sent: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until told to stop; everything stopped then goes on."""
        while not stop.is_set():
            await asyncio.sleep(random.expovariate(1 / self._every))
            self._strike()
        for process in list(self._stopped):
            self._go_on(process)

    def _strike(self) -> None:
        templates = self._me.children()
        if not templates:
            return
        victims, who = templates, "template"
        if random.random() > self._template:
            victims, who = [child for process in templates for child in _children(process)], "worker"
        if victims:
            number = random.choices(list(SIGNALS), list(SIGNALS.values()))[0]
            self._send(random.choice(victims), number, who)

    def _send(self, victim: psutil.Process, number: signal.Signals, who: str) -> None:
        try:
            os.kill(victim.pid, number)
        except ProcessLookupError:
            return
        self.sent[f"{number.name} to a {who}"] += 1
        if number == signal.SIGSTOP:
            self._stopped.add(victim)
            asyncio.get_running_loop().call_later(PAUSE, self._go_on, victim)

    def _go_on(self, process: psutil.Process) -> None:
        self._stopped.discard(process)
        try:
            process.send_signal(signal.SIGCONT)  # psutil checks that it is still the same process
        except psutil.Error:
            pass


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []
