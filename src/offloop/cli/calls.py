"""What is called in a worker for each input: the user's function, given what the input's text means.

A worker that runs these imports this module, so it stays light.
"""

from __future__ import annotations

from offloop.child.lowlevel import cast
from offloop.task import current_task

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


def call_of(target: Callable[..., Any], *, is_json: bool) -> Callable[[str], Any]:
    """What to call with the text of an input.

    Args:
        target: a function, or a class of tasks, which is made from the input and then run.
        is_json: whether the text is JSON.
    """
    if isinstance(target, type) and callable(getattr(cast("type[object]", target), "run", None)):
        target = RunTask(target)
    return FromJson(target) if is_json else target


class FromJson:
    """Calls a function with the fields of a JSON object as keyword arguments, or with any other value.

    Args:
        fn: the function.
    """

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, text: str) -> Any:
        import json

        value = json.loads(text, parse_constant=_refuse)
        return self.fn(**value) if type(value) is dict else self.fn(value)

    def __repr__(self) -> str:
        return _name(self.fn)


class RunTask:
    """Makes a task from its arguments, and runs it on the worker's environment.

    Args:
        kind: the class of the task.
    """

    __slots__ = ("kind",)

    def __init__(self, kind: Callable[..., Any]) -> None:
        self.kind = kind

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.kind(*args, **kwargs).run(current_task().environment)

    def __repr__(self) -> str:
        return _name(self.kind)


def _name(target: Any) -> str:
    return getattr(target, "__qualname__", None) or repr(target)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
