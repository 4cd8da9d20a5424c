"""Loops without an end, each the last thing in a `try`, of which the place of a `finally` depends on."""

from __future__ import annotations

import time
from collections.abc import Callable

from offloop import TaskCancelled
from support.signals import tell

WHERE = "# here it runs"


def for_ever(path: str) -> None:
    try:
        while True:  # here it runs
            pass  # here it runs
    finally:
        tell(path, "cleaned up")


def count(path: str) -> None:
    number = 0
    try:
        while True:  # here it runs
            number += 1  # here it runs
    finally:
        tell(path, "cleaned up")


def call(path: str) -> None:
    try:
        while True:  # here it runs
            len("text")  # here it runs
    finally:
        tell(path, "cleaned up")


def count_far(path: str) -> int:
    number = 0
    try:
        while number < 10**15:  # here it runs
            number += 1  # here it runs
        return number
    finally:
        tell(path, "cleaned up")


def look_at_the_clock(path: str) -> None:
    end = time.monotonic() + 1e6
    try:
        while time.monotonic() < end:  # here it runs
            pass  # here it runs
    finally:
        tell(path, "cleaned up")


def wait_for_a_change(path: str) -> None:
    changed = None
    try:
        while changed is None:  # here it runs
            pass  # here it runs
    except TaskCancelled:
        tell(path, "cleaned up")
        raise


def nest(path: str) -> None:
    total = 0
    try:
        while True:  # here it runs
            for number in range(3):  # here it runs
                total += number  # here it runs
            if total < 0:  # here it runs
                break
    except TaskCancelled:
        tell(path, "cleaned up")
        raise


def recur(path: str) -> None:
    def numbers() -> object:
        while True:
            yield 1  # here it runs

    try:
        for _ in numbers():  # here it runs
            pass  # here it runs
    finally:
        tell(path, "cleaned up")


def leave_a_block(path: str) -> None:
    class Block:
        def __enter__(self) -> None:
            """Nothing is to be done."""

        def __exit__(self, *error: object) -> None:
            tell(path, "cleaned up")

    with Block():
        while True:  # here it runs
            pass  # here it runs


#: Those that have no call: they are left at a jump.
BARE: list[Callable[[str], object]] = [for_ever, count, count_far, wait_for_a_change, nest, leave_a_block]
LOOPS = [*BARE, call, look_at_the_clock, recur]
