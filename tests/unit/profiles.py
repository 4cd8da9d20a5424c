"""How long the stateful tests search: choose with the environment variable OFFLOOP_HYPOTHESIS_PROFILE."""

from __future__ import annotations

import faulthandler
import os
import signal

from hypothesis import HealthCheck, Phase, settings

_ALLOWED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
#: Examples, and steps in each: a thousand take minutes, a hundred thousand hours.
_SIZES = {"normal": (200, 50), "ci": (1_000, 50), "thorough": (10_000, 100), "exhaustive": (100_000, 100)}
_PROFILES = {
    name: settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=_ALLOWED
    )
    for name, (examples, steps) in _SIZES.items()
}
# For scripts/mutate, which runs them for each of hundreds of changes: whether it fails, not how.
_PROFILES["brief"] = settings(
    _PROFILES["normal"], max_examples=40, phases=[Phase.explicit, Phase.generate], database=None
)
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
