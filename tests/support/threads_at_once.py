"""Tasks for tests in which many threads use one thing at the same time."""

from __future__ import annotations

import threading

from offloop import current_task
from support.signals import append_line


def run_and_note(path: str, number: int) -> int:
    """Log that it runs; returns the number with its sign changed."""
    append_line(path, str(number))
    return -number


def speak_from_threads(count: int, each: int) -> int:
    """Have that many threads each send ``(thread, item)`` so many times, and report how many are sent."""
    task = current_task()
    lock = threading.Lock()
    sent = 0

    def speak(speaker: int) -> None:
        nonlocal sent
        for item in range(each):
            task.channel.send((speaker, item))
            with lock:
                sent += 1
                task.report(sent, count * each)

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent
