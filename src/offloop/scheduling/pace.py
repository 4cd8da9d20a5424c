"""How many tasks one plan hands out, so that carrying it out holds the event loop briefly."""

from __future__ import annotations

#: The most: so many calls without arguments take 0.15 ms to send.
MAX_PLAN = 64
#: Seconds that sending a plan's tasks may take; large arguments take their time to pickle.
PLAN_TIME = 0.001


class Pace:
    """What sending took decides how much is sent at once.

    Args:
        measured: whether it does; not where what runs where is to be the same each time.

    Attributes:
        most: the most tasks for the next plan.
    """

    def __init__(self, *, measured: bool = True) -> None:
        self._measured = measured
        self.most = MAX_PLAN

    def sent(self, count: int, seconds: float) -> None:
        """Note how long it took to send the ``count`` tasks of a plan."""
        if not count or not self._measured:
            return
        if seconds > PLAN_TIME:
            self.most = max(1, int(count * PLAN_TIME / seconds))
        else:
            self.most = min(2 * self.most, MAX_PLAN)
