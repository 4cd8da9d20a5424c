"""How long the stateful tests search: choose with the environment variable OFFLOOP_HYPOTHESIS_PROFILE."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.filter_too_much]
_PROFILES = {
    "normal": settings(
        max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=_SLOW_IS_FINE
    ),
    "thorough": settings(
        max_examples=20_000, stateful_step_count=120, deadline=None, suppress_health_check=_SLOW_IS_FINE
    ),
}
for _name, _profile in _PROFILES.items():
    settings.register_profile(f"offloop-{_name}", _profile)

#: The settings for every stateful test.
CHOSEN = _PROFILES[os.environ.get("OFFLOOP_HYPOTHESIS_PROFILE", "normal")]
