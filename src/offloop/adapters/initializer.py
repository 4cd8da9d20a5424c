"""A bootstrap that makes a worker ready for an executor's tasks."""

from __future__ import annotations

from offloop.child.bootstrap import run_bootstrap

TYPE_CHECKING = False

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any

    from offloop.environment import Environment


class AuthKey:
    """The key by which `multiprocessing`'s managers know their clients; who loads it takes it on."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return (_adopt, (self.key,))


def _adopt(key: bytes) -> AuthKey:
    from multiprocessing.process import current_process

    current_process().authkey = key
    return AuthKey(key)


class Initializer:
    """Runs a factory's own bootstrap, if it has one, and then ``initializer(*initargs)``.

    Args:
        bootstrap: the factory's own.
        initializer: what it returns does not matter; an awaitable is awaited.  None: there is none.
        initargs: its arguments.
        authkey: the parent's key of `multiprocessing`; None where workers share the parent's process.
    """

    def __init__(
        self,
        bootstrap: Callable[[Environment], Any] | str | os.PathLike[str] | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        authkey: bytes | None,
    ) -> None:
        # First: it is loaded first, and what comes behind it may be clients of a manager.
        self.authkey = AuthKey(authkey) if authkey is not None else None
        self.bootstrap = bootstrap
        self.initializer = initializer
        self.initargs = initargs

    def __call__(self, environment: Environment) -> object:
        """Prepare a worker, which has this environment."""
        run_bootstrap(self.bootstrap, environment)
        return self.initializer(*self.initargs) if self.initializer is not None else None
