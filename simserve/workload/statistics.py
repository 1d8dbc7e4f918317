"""What a trace looks like: rates, burstiness, lengths, and how much of its prompts a cache could know."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simserve.units import NS_PER_S
from simserve.workload.ideal_hits import ideal_hit_tokens
from simserve.workload.workload import IntColumn, Workload

_DEFAULT_BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class LengthStatistics:
    """Mean, quantiles (interpolated linearly) and extremes of a length, tokens as recorded (0 is 0)."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: int

    @staticmethod
    def of(tokens: IntColumn) -> LengthStatistics:
        """Return the statistics of a column."""
        p50, p95, p99 = np.percentile(tokens, [50, 95, 99]).tolist()
        return LengthStatistics(float(tokens.mean()), p50, p95, p99, int(tokens.max()))


@dataclass(frozen=True, slots=True)
class TraceStatistics:
    """Statistics of a workload. Those of arrivals are None where it has none (or a single one).

    Attributes:
        requests: Rows, follow-ups included.
        sessions: Distinct sessions; 0 if it has none.
        zero_lengths: Recorded lengths of 0, which run as 1.
        duration_s: Last arrival minus first.
        mean_per_min: Requests per minute of that duration.
        peak_per_min: Most requests in one minute, minute 0 starting with the first arrival.
        cv: Standard deviation over mean of the gaps between arrivals.
        dispersion_1s: Variance over mean of the arrivals per second (index of dispersion), of all whole or
            begun seconds from the first arrival to the last.
        ideal_prefix_hit: Tokens in leading full blocks that an earlier request had too, over all prompt
            tokens: what an infinite cache with instant insertion would hit. None where every prompt is
            of its own.
        block_tokens: Size of those blocks.
    """

    name: str
    requests: int
    sessions: int
    zero_lengths: int
    prompt_tokens: LengthStatistics
    output_tokens: LengthStatistics
    duration_s: float | None
    mean_per_min: float | None
    peak_per_min: int | None
    cv: float | None
    dispersion_1s: float | None
    ideal_prefix_hit: float | None
    block_tokens: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as plain dicts, for JSON."""
        return asdict(self)


def describe_trace(workload: Workload) -> TraceStatistics:
    """Return the statistics of a workload; arrivals are the recorded ones, of follow-ups too.

    Args:
        workload: At least one request.
    """
    duration_s = mean = peak = cv = dispersion = hit = block_tokens = None
    if workload.has_arrivals and workload.count > 1 and workload.arrival_ns[-1] > workload.arrival_ns[0]:
        since_first = workload.arrival_ns - workload.arrival_ns[0]
        gaps = np.diff(workload.arrival_ns)
        duration_s = int(since_first[-1]) / NS_PER_S
        mean = workload.count / duration_s * 60
        peak = int(np.bincount(since_first // (60 * NS_PER_S)).max())
        cv = float(gaps.std() / gaps.mean())
        per_second = np.bincount(since_first // NS_PER_S)
        dispersion = float(per_second.var() / per_second.mean())
    if workload.prompts is not None:
        block_tokens = workload.block_tokens or _DEFAULT_BLOCK_TOKENS
        total = int(workload.prompt_tokens.sum())
        hit = ideal_hit_tokens(workload, block_tokens) / total if total else 0.0
    return TraceStatistics(
        name=workload.name,
        requests=workload.count,
        sessions=0 if workload.session is None else len(set(workload.session.names) - {""}),
        zero_lengths=workload.zero_lengths,
        prompt_tokens=LengthStatistics.of(workload.prompt_tokens),
        output_tokens=LengthStatistics.of(workload.output_tokens),
        duration_s=duration_s,
        mean_per_min=mean,
        peak_per_min=peak,
        cv=cv,
        dispersion_1s=dispersion,
        ideal_prefix_hit=hit,
        block_tokens=block_tokens,
    )
