"""A plugin for pytest: a pool for a test, and a check that no worker outlives its test.

It is loaded where offloop is installed; ``pytest -p no:offloop`` leaves it out.
offloop itself is imported by the first test that uses a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from offloop import WorkerPool

pytest.register_assert_rewrite("offloop.testing.worker_contract")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "offloop(max_workers=2, factory='process', **options): of the pool that is `offloop_pool`"
    )


@pytest.fixture
def offloop_no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a worker behind, or a pool that was never shut down.

    What is left is ended all the same.  A test that has failed already is not
    failed again.  To have every test checked, set ``usefixtures = offloop_no_leaks``
    in pytest's configuration.
    """
    from offloop.testing.leaks import Watch

    failed_before = request.session.testsfailed
    watch = Watch()
    yield
    leaks = watch.leaks()
    if leaks and request.session.testsfailed == failed_before:
        pytest.fail("the test left behind:\n  " + "\n  ".join(leaks), pytrace=False)


@pytest.fixture
def offloop_pool(
    request: pytest.FixtureRequest,
    offloop_no_leaks: None,  # noqa: ARG001  what it checks comes after the end of the pool
) -> Iterator[WorkerPool]:
    """A pool for one test: of two processes, or as the marker ``offloop`` says.

    It is an ordinary fixture, for whatever runs async tests: the pool starts
    itself, on the event loop that first uses it.  After the test it is ended,
    and what is outstanding is cancelled.
    """
    from offloop import WorkerPool
    from offloop.testing.leaks import end

    test: pytest.Item = request.node  # pyright: ignore[reportUnknownMemberType]  untyped in pytest
    pool = WorkerPool(**_pool_options(test))
    pool._dispatcher.ends_with_loop = True  # a test may end its event loop before this fixture ends
    yield pool
    end(pool._dispatcher)


def _pool_options(node: pytest.Item) -> dict[str, Any]:
    """The options for a test's pool: those of its own markers win over its class's and module's."""
    options: dict[str, Any] = {"max_workers": 2}
    for marker in reversed(list(node.iter_markers("offloop"))):
        if marker.args:
            raise pytest.UsageError("the marker offloop takes keywords only, those of offloop.WorkerPool")
        options |= marker.kwargs
    return options
