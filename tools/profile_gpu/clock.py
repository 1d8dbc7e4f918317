"""How long a launch takes: CUDA events, caches warm or cold, the median of as many repeats as time allows."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any, Protocol

Launch = Callable[[], object]

# Time for the repeats of one case, and how many there are at least and at most.
CASE_BUDGET_S = 0.03
FEWEST, MOST = 5, 100
WARM_UPS = 2
# A buffer of twice the L2 cache, written, leaves nothing of the operands in it.
FLUSH_FACTOR = 2
UNKNOWN_L2_BYTES = 128 * 2**20
# Back to back, as in an engine's graph: each copy of a weight once.
LAUNCHES_A_GRAPH = 6


class Clock(Protocol):
    """Times launches one by one."""

    def times_s(self, launch: Launch, repeats: int) -> list[float]:
        """Return the seconds of each of `repeats` launches."""


class CudaClock:
    """Times with CUDA events on the current device.

    Args:
        torch: The module.
        cold: Write over the L2 cache before each launch, as serving finds it; else it is as the last launch
            left it, which is how most published tables were measured.
    """

    def __init__(self, torch: Any, *, cold: bool) -> None:
        self._torch = torch
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        l2_bytes = getattr(properties, "L2_cache_size", 0) or UNKNOWN_L2_BYTES
        self._flush = torch.empty(FLUSH_FACTOR * l2_bytes, dtype=torch.uint8, device="cuda") if cold else None

    def times_s(self, launch: Launch, repeats: int) -> list[float]:
        """Time each launch between two events; see `Clock.times_s`.

        Warm launches are captured in a CUDA graph where that is possible, so that the host's launch time does
        not count, as in an engine that replays graphs.
        """
        torch = self._torch
        launches = 1
        if self._flush is None:
            graph = self._capture(launch)
            if graph is not None:
                launch, launches = graph.replay, LAUNCHES_A_GRAPH
        starts = [torch.cuda.Event(enable_timing=True) for _ in range(repeats)]
        ends = [torch.cuda.Event(enable_timing=True) for _ in range(repeats)]
        for start, end in zip(starts, ends, strict=True):
            if self._flush is not None:
                self._flush.zero_()
            start.record()
            launch()
            end.record()
        torch.cuda.synchronize()
        spans = (start.elapsed_time(end) for start, end in zip(starts, ends, strict=True))
        return [1e-3 * milliseconds / launches for milliseconds in spans]

    def _capture(self, launch: Launch) -> Any:
        """Return a CUDA graph of `LAUNCHES_A_GRAPH` launches; None where they cannot be captured."""
        torch = self._torch
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(LAUNCHES_A_GRAPH):
                    launch()
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        return graph


def measure_s(clock: Clock, launch: Launch, budget_s: float = CASE_BUDGET_S) -> float:
    """Return the median seconds of a launch, repeated for about `budget_s`."""
    launch()  # compiles, chooses algorithms, allocates: none of it may happen inside a capture
    first_s = min(clock.times_s(launch, WARM_UPS))
    return median(clock.times_s(launch, count_repeats(first_s, budget_s)))


def count_repeats(first_s: float, budget_s: float = CASE_BUDGET_S) -> int:
    """Return how many repeats of a launch that takes `first_s` fit into the budget, within bounds."""
    return max(FEWEST, min(MOST, int(budget_s / max(first_s, 1e-9))))
