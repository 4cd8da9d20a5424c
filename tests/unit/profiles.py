"""How long the stateful tests search: choose with the environment variable OFFLOOP_HYPOTHESIS_PROFILE."""

from __future__ import annotations

import faulthandler
import os
import signal

from hypothesis import HealthCheck, settings

_ALLOWED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
_PROFILES = {
    "normal": settings(
        max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=_ALLOWED
    ),
    "thorough": settings(
        max_examples=10_000, stateful_step_count=100, deadline=None, suppress_health_check=_ALLOWED
    ),
}
for _name, _profile in _PROFILES.items():
    settings.register_profile(f"offloop-{_name}", _profile)

#: The settings of every stateful test here.
CHOSEN = _PROFILES[os.environ.get("OFFLOOP_HYPOTHESIS_PROFILE", "normal")]


def lift_time_bound() -> None:
    """Let the running test take as long as it needs: pure code, whose loops the test itself bounds.

    A failure that is found in a second takes Hypothesis minutes to shrink.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
