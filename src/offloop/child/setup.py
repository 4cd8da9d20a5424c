"""How a worker takes in what its parent tells it first, whatever it lives in."""

from __future__ import annotations

from offloop.child import forward
from offloop.child.bootstrap import make_environment, run_bootstrap
from offloop.child.control import ORPHANED
from offloop.task import find_task
from offloop.wire.frames import REFUSED, frame

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from offloop.child.outlet import Outlet
    from offloop.child.port import SocketPort
    from offloop.environment import Environment


def take_setup(
    port: SocketPort, outlet: Outlet, apply: Callable[[dict[str, Any]], None]
) -> tuple[dict[str, Any], Environment] | int:
    """Wait for the setup, take it on, and run the bootstrap.

    Args:
        port: brings the setup.
        outlet: takes log records and warnings to the parent, from now on.
        apply: takes on what the options say of the place where this worker lives.

    Returns:
        The options and the environment; or the status to exit with: the parent
        is gone, or has been told what went wrong.
    """
    port.forwarding = forward.install(
        lambda kind, payload: outlet.send(frame(kind, payload)), None, find_task
    )
    setup = port.receive_setup()
    if setup is None:
        return ORPHANED
    try:
        options = port.decode(setup)
        apply(options)
        port.forwarding.update(options["verbosity"])
        environment = make_environment(options["environment"])
        run_bootstrap(options["bootstrap"], environment)
    except BaseException as error:
        port.say(REFUSED, port.encode_failure(error))
        return 1
    return options, environment
