"""What a step costs, read off the requests' own times: a comparison below the level of latencies.

A request's decode time (E2EL - TTFT) is the sum of the steps that it was in. Over all requests it is
fitted as

    base * steps + per_sequence * (steps x mean batch) + per_prompt * (prompts that began meanwhile)
    + per_prompt_token * (their tokens)

by least squares of the relative error, on the measured and on the simulated side alike. The constants tell
which part of a step is off: `base` is weights and host, `per_sequence` the KV cache (at the run's own
contexts), the others prefill.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from simserve.metrics.columns import Floats, Ints
from simserve.study.measured import Latencies

# Fewer requests, or prompts as alike as this, do not tell the constants apart.
_FEWEST_REQUESTS = 50
_ALIKE_TOKENS = 100.0


@dataclass(frozen=True, slots=True)
class StepFit:
    """Constants of one side's steps.

    Attributes:
        base_s: A step with hardly anything in its batch.
        per_sequence_s: More for each sequence that decodes.
        per_prompt_s: More for each prompt that is prefilled meanwhile.
        per_prompt_token_s: More for each of its tokens; None where all prompts are alike.
        mean_batch: Sequences that decode together, averaged over requests.
        error_percent: How far the fit is from the requests, on average.
    """

    base_s: float
    per_sequence_s: float
    per_prompt_s: float
    per_prompt_token_s: float | None
    mean_batch: float
    error_percent: float

    @property
    def mean_step_s(self) -> float:
        """A decode step at the mean batch."""
        return self.base_s + self.per_sequence_s * self.mean_batch

    def as_dict(self) -> dict[str, float | None]:
        """Return the constants as JSON shows them."""
        return asdict(self)


def fit_steps(side: Latencies, prompt_tokens: Ints, skip: int = 0) -> StepFit | None:
    """Fit one side's constants; None if there are too few requests, or they do not determine them.

    Args:
        side: The requests' times.
        prompt_tokens: `[n]`.
        skip: How many of the first requests to leave out of the fit (they still fill batches).
    """
    done = ~np.isnan(side.e2el_s) & (side.output_tokens > 1)
    chosen = done[skip:].nonzero()[0] + skip
    if len(chosen) < _FEWEST_REQUESTS:
        return None
    first, end = side.start_s + side.ttft_s, side.end_s
    decode_s = (end - first)[chosen]
    if not np.all(decode_s > 0):
        return None
    batch = _mean_batch(first[done], end[done])(first[chosen], end[chosen])
    steps = side.output_tokens[chosen] - 1
    prompts, tokens = _begun_within(first[done], prompt_tokens[done], first[chosen], end[chosen])
    columns = [steps, steps * batch, prompts]
    alike = float(prompt_tokens[done].std()) < _ALIKE_TOKENS
    if not alike:
        columns.append(tokens)
    matrix = np.stack(columns, axis=1) / decode_s[:, None]
    found, _, rank, _ = np.linalg.lstsq(matrix, np.ones(len(chosen)), rcond=None)
    if rank < len(columns):
        return None
    error = float(np.abs(matrix @ found - 1).mean()) * 100
    base_s, sequence_s, prompt_s = found[:3].tolist()
    token_s = None if alike else float(found[3])
    return StepFit(base_s, sequence_s, prompt_s, token_s, float(batch.mean()), error)


def _mean_batch(first: Floats, end: Floats) -> Callable[[Floats, Floats], Floats]:
    """Return a function of intervals: how many requests decoded, averaged over each."""
    times = np.concatenate((first, end))
    change = np.repeat((1.0, -1.0), (len(first), len(end)))
    order = np.argsort(times, kind="stable")
    times = times[order]
    count = np.cumsum(change[order])
    area = np.concatenate(([0.0], np.cumsum(count[:-1] * np.diff(times))))

    def mean(begin: Floats, stop: Floats) -> Floats:
        return np.asarray((np.interp(stop, times, area) - np.interp(begin, times, area)) / (stop - begin))

    return mean


def _begun_within(first: Floats, prompt_tokens: Ints, begin: Floats, stop: Floats) -> tuple[Ints, Ints]:
    """Return how many prompts began in each interval (its begin excluded), and their tokens."""
    order = np.argsort(first, kind="stable")
    times = first[order]
    tokens = np.concatenate(([0], np.cumsum(prompt_tokens[order])))
    low = np.searchsorted(times, begin, side="right")
    high = np.searchsorted(times, stop, side="right")
    return np.asarray(high - low), np.asarray(tokens[high] - tokens[low])
