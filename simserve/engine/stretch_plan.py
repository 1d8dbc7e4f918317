"""How long the steps of a stretch take, and when they start and end, as far as a clock has planned it."""

from __future__ import annotations

from collections.abc import Sequence

from simserve.cost.timer import StepTimer
from simserve.scheduler.batch import Forecast

# Nobody mutates it.
_NO_READS: list[int] = []


class Plan:
    """Ends of the batches in flight and of a stretch's new steps.

    Attributes:
        ends: In order; the first ones are those in flight.
        schedules: How many new steps.
        counts: Sequences in the new steps, one cohort after the other in turn.
        last_count: Sequences in the very last one where they are fewer, else -1.
        starts: Start of each new step; None where it is the end of the step before.
        first_start: Start of the first new step where no step is before it, else -1.
        frees: Each new step's time at which every stage is free; None for one stage without host time.
        reads: Until when each new step's weights hold the path from the host, 0 without such.
    """

    __slots__ = ("counts", "ends", "first_start", "frees", "last_count", "reads", "schedules", "starts")

    def __init__(self, ends: list[int], counts: list[int], last_count: int, schedules: int) -> None:
        self.ends = ends
        self.counts = counts
        self.last_count = last_count
        self.schedules = schedules
        self.first_start = -1
        self.starts: list[int] | None = None
        self.frees: list[tuple[int, ...]] | None = None
        self.reads = _NO_READS

    def drop(self, steps: int, schedules: int) -> None:
        """Forget ends that have passed and new steps that have been dispatched."""
        self.ends = self.ends[steps:]
        self.schedules -= schedules
        self.first_start = -1
        if self.starts is not None and self.frees is not None:
            self.starts = self.starts[schedules:]
            self.frees = self.frees[schedules:]
            self.reads = self.reads[schedules:]
        turn = schedules % len(self.counts)
        if turn:
            self.counts = self.counts[turn:] + self.counts[:turn]

    def start_of(self, in_flight: int, step: int) -> int:
        """Return the start of new step `step`, given how many batches are in flight before them."""
        if self.starts is not None:
            return self.starts[step]
        if self.first_start >= 0 and step == 0:
            return self.first_start
        return self.ends[in_flight + step - 1]


def price_forecast(timers: Sequence[StepTimer], forecast: Forecast, schedules: int) -> list[list[int]]:
    """Return the durations of the coming `schedules` steps, a list a stage."""
    if len(forecast.cohorts) > 1:
        return [_price_in_turns(timer, forecast, schedules) for timer in timers]
    return [price_cohort(timer, forecast, schedules) for timer in timers]


def price_cohort(timer: StepTimer, forecast: Forecast, schedules: int) -> list[int]:
    """Return the durations of one stage's steps of a single cohort, the last of which may be thinned out."""
    last = forecast.last_sequences
    if last < 0:
        return _price_plain(timer, forecast, schedules)
    thinned = timer.decode_ns(last, forecast.last_context, 0, 1)
    if schedules == 1:
        return thinned
    durations = _price_plain(timer, forecast, schedules - 1)
    durations += thinned
    return durations


def _price_plain(timer: StepTimer, forecast: Forecast, steps: int) -> list[int]:
    """Price steps with all sequences of a single cohort; while what windows read grows, one by one."""
    count, context = forecast.cohorts[0]
    windows = forecast.window_tokens
    if len(windows) == 1:
        return timer.decode_ns(count, context, windows[0], steps)
    growing = min(len(windows) - 1, steps)
    durations: list[int] = []
    for step in range(growing):
        durations += timer.decode_ns(count, context + step * count, windows[step], 1)
    if steps > growing:
        durations += timer.decode_ns(count, context + growing * count, windows[growing], steps - growing)
    return durations


def _price_in_turns(timer: StepTimer, forecast: Forecast, schedules: int) -> list[int]:
    """Price one stage's steps where several cohorts take turns."""
    turns = len(forecast.cohorts)
    durations = [0] * schedules
    for turn, (count, context) in enumerate(forecast.cohorts):
        steps = len(range(turn, schedules, turns))
        if steps:
            durations[turn::turns] = timer.decode_ns(count, context, 0, steps)
    return durations
