"""Steps that can be seen one by one: where nearly every step of a busy server gives a first or a last token.

All tokens of a step come out together, so first tokens and ends of requests form clusters in time. The gap
from one cluster to the next is the step that the later one ends, if no step between them stayed unseen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from simserve.metrics.columns import Floats, Mask
from simserve.study.measured import Latencies
from simserve.study.step_fit import StepFit

# Moments nearer to each other than this share of a decode step belong to one step.
_CLUSTER_SHARE = 0.4
# Of the steps, at least so many must be seen, or gaps are several steps long.
_FEWEST_SEEN = 0.7
# Steps with one number of new prompts, for a median worth telling.
_FEWEST_ALIKE = 30


@dataclass(frozen=True, slots=True)
class SeenSteps:
    """Steps of one side that brought the same number of first tokens.

    Attributes:
        new_prompts: That number.
        steps: How many such steps were seen.
        median_s: Their median duration.
        mean_batch: Sequences that decoded meanwhile, on average.
    """

    new_prompts: int
    steps: int
    median_s: float
    mean_batch: float

    def as_dict(self) -> dict[str, float]:
        """Return the row as JSON shows it."""
        return asdict(self)


def see_steps(side: Latencies, fit: StepFit | None) -> list[SeenSteps]:
    """Return the steps of one side by their new prompts; empty where steps cannot be seen.

    Args:
        side: The requests' times.
        fit: The same side's fitted steps, for the length of a step.
    """
    if fit is None or fit.mean_step_s <= 0:
        return []
    done = ~np.isnan(side.e2el_s)
    first, end = side.start_s[done] + side.ttft_s[done], side.end_s[done]
    # The server is busy while requests still come.
    last = float(side.start_s[done].max())
    moments = np.sort(np.concatenate((first, end)))
    moments = moments[moments <= last]
    apart = np.flatnonzero(np.diff(moments) > _CLUSTER_SHARE * fit.mean_step_s)
    begins = moments[np.concatenate(([0], apart + 1))]
    stops = moments[np.concatenate((apart, [len(moments) - 1]))]
    if len(begins) < _FEWEST_SEEN * _steps_until(last, side, first, end, done):
        return []
    ordered, ended = np.sort(first), np.sort(end)
    began = np.searchsorted(ordered, stops, side="right")
    prompts = (began - np.searchsorted(ordered, begins, side="left"))[1:]
    batch = (began - np.searchsorted(ended, stops, side="right"))[:-1]
    gaps = np.diff(begins)
    found = []
    for number in range(int(prompts.max(initial=0)) + 1):
        alike = prompts == number
        if alike.sum() >= _FEWEST_ALIKE:
            median, mean = float(np.median(gaps[alike])), float(batch[alike].mean())
            found.append(SeenSteps(number, int(alike.sum()), median, mean))
    return found


def _steps_until(last_s: float, side: Latencies, first: Floats, end: Floats, done: Mask) -> float:
    """Return about how many steps there were: decoded tokens over the mean batch."""
    decoded = float((side.output_tokens[done] - 1).sum())
    return decoded * (last_s - float(first.min())) / float((end - first).sum())
