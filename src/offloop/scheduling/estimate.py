"""How long a kind of task runs: a moving average of measured durations."""

from __future__ import annotations


class Kind:
    """Tasks that run the same function, and so probably take about as long.

    ``seconds`` is None until one of them was measured.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float | None = None

    def record(self, seconds: float) -> None:
        """Take a measured duration into account.

        A longer one counts for half, a shorter one for a tenth: to believe that
        a task is slow costs a little prefetching, to believe that it is fast
        lets tasks queue behind it.
        """
        known = self.seconds
        if known is None:
            self.seconds = seconds
        elif seconds > known:
            self.seconds = (known + seconds) * 0.5
        else:
            self.seconds = known + (seconds - known) * 0.1
