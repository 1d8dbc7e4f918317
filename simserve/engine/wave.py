"""Waves: the times of work of ranks in lock-step, and what they tell the front end of their load.

A wave begins with a request, and ends when in a step whose number divides by 32 no rank has an unfinished
one (`DPEngineCoreProc` in vllm/v1/engine/core.py, vLLM 0.19).
"""

from __future__ import annotations

from collections.abc import Callable

# Ranks agree on whether work is left in every so many steps (`_has_global_unfinished_reqs`).
_STEPS_BETWEEN_AGREEMENTS = 32

# (rank, waiting, running, wave, step of the wave, time): what a rank tells the front end of its load.
Report = Callable[[int, int, int, int, int, int], None]


class Wave:
    """The wave that runs, or the one that comes next.

    Args:
        report: Told of a rank's load when that has changed.
        ranks: How many ranks there are.

    Attributes:
        is_running: Whether the ranks run at all.
        step: How many steps of the wave they have been told to run.
        told: Of each rank: (waiting, running) as last reported.
    """

    def __init__(self, report: Report, ranks: int) -> None:
        self._report = report
        self._number = 0
        self.is_running = False
        self.step = 0
        self.told = [(0, 0)] * ranks

    @property
    def is_to_agree(self) -> bool:
        """Whether the ranks agree after this step on whether work is left."""
        return self.is_running and self.step % _STEPS_BETWEEN_AGREEMENTS == 0

    def end(self) -> None:
        """End the wave: no rank has work."""
        self.is_running = False
        self._number += 1
        self.step = 0

    def tell(self, rank: int, counts: tuple[int, int], now_ns: int) -> None:
        """Report a rank's (waiting, running), if they have changed."""
        if counts != self.told[rank]:
            self.told[rank] = counts
            self._report(rank, *counts, self._number, self.step, now_ns)
