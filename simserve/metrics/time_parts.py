"""Where the time of a run's steps went: some of them are priced again, operator by operator.

Moments evenly spread over the time in which instances were busy are looked up in the step logs, and the step
that ran then is priced by what priced it in the run. Its operators share its duration as they share the
price, so all parts together are the busy time on record. What was in the steps is counted, not sampled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.operator_time import OperatorTime
from simserve.metrics.columns import Floats, Ints, Mask, RequestColumns, as_ints, joined, stretch_times
from simserve.metrics.pools import PoolInfo
from simserve.metrics.record import RequestLog, StepLog
from simserve.metrics.spans import prefill_steps

if TYPE_CHECKING:
    import pyarrow as pa

# Moments that are looked at, of all pools together: a share of a half is then known to 4 % (one standard
# error of a binomial share, 0.5 / sqrt(200)), and every step priced costs a tenth of a millisecond.
_MOMENTS = 200
_INTERVALS = 40
_FAMILIES = {
    "gemm": "GEMMs", "moe": "experts", "elementwise": "norms, activations", "quantize": "quantization",
    "all_reduce": "collectives", "all_gather": "collectives", "reduce_scatter": "collectives",
    "all_to_all": "collectives", "host": "host",
}  # fmt: skip
# How the time is split, and into which parts: by families of operators; by what was waited for (`launch` is
# what neither the accelerator's peaks nor the links explain, `step` what a stated step time does not tell);
# by what was in the steps. And the durations of the steps that were looked at.
OPERATORS = (
    "GEMMs", "experts", "attention of prompts", "attention of decodes", "norms, activations", "quantization",
    "collectives", "host", "step",
)  # fmt: skip
BOUNDS = ("compute", "bandwidth", "communication", "launch", "host", "step")
PHASES = ("prompts alone", "prompts and decodes", "decodes alone")
SAMPLE = ("on record", "priced again")
SPLITS = {"operators": OPERATORS, "bounds": BOUNDS, "phases": PHASES, "sample": SAMPLE}

# Prices the step of a pool from (decode tokens, prefill tokens, running requests, used KV blocks, requests
# that have a chunk of their prompt in it).
Price = Callable[[int, int, int, int, int], Sequence[OperatorTime]]
# Seconds in each interval by (split, part).
_Parts = dict[tuple[str, str], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class _Stretches:
    """The stretches of all instances, without the time in which two of one overlap (pipelines)."""

    instance: Ints
    first_step: Ints
    start_s: Floats
    end_s: Floats
    step_s: Floats
    decodes: Ints
    prefill: Ints
    running: Ints
    used_blocks: Ints

    @classmethod
    def of(cls, logs: Sequence[StepLog]) -> _Stretches:
        starts, step_s = [], []
        for log in logs:
            start, end = stretch_times(log)
            step_s.append((end - start) / np.maximum(as_ints(log.steps), 1))
            starts.append(np.maximum(start, np.concatenate((start[:1], end[:-1]))))
        sizes = [len(log.steps) for log in logs]
        return cls(
            np.repeat(np.array([log.instance for log in logs], np.int64), sizes),
            joined([as_ints(log.first_step) for log in logs]),
            joined(starts) / 1e9,
            joined([stretch_times(log)[1] for log in logs]) / 1e9,
            np.concatenate([*step_s, np.empty(0)]) / 1e9,
            *(
                joined([as_ints(getattr(log, name)) for log in logs])
                for name in ("decode_tokens", "prefill_tokens", "running", "used_blocks")
            ),
        )

    @property
    def duration_s(self) -> Floats:
        return self.end_s - self.start_s


def time_parts_table(
    log: RequestLog, columns: RequestColumns, pools: Sequence[PoolInfo], prices: Sequence[Price]
) -> pa.Table:
    """Return a row an interval, split and part that is not 0 (the columns of time_parts.parquet).

    Args:
        log, columns: The record.
        pools: What the instances are.
        prices: What prices a step of each pool.
    """
    from simserve.metrics import arrow

    stretches = _Stretches.of(columns.steps.logs)
    edges_s = np.linspace(0.0, max(float(stretches.end_s.max(initial=0.0)), 1e-9), _INTERVALS + 1)
    prompts = _count_prompts(stretches, *prefill_steps(log, columns))
    busy_s = _busy_seconds(stretches, np.ones(len(prompts), np.bool_), edges_s)
    parts: _Parts = {
        ("phases", name): _busy_seconds(stretches, chosen, edges_s)
        for name, chosen in _phases(stretches, prompts).items()
    }
    parts |= _sample(stretches, prompts, pools, prices, edges_s, busy_s)
    rows = [
        (interval, split, part, seconds)
        for split, names in SPLITS.items()
        for part in names
        for interval, seconds in enumerate(parts.get((split, part), np.empty(0)).tolist())
        if seconds > 0
    ]
    intervals = np.array([row[0] for row in rows], np.int64)
    return arrow.table(
        {
            "start_s": arrow.doubles(edges_s[intervals]),
            "end_s": arrow.doubles(edges_s[intervals + 1]),
            "split": arrow.labels([row[1] for row in rows]),
            "part": arrow.labels([row[2] for row in rows]),
            "seconds": arrow.doubles(np.array([row[3] for row in rows], np.float64)),
        }
    )


def family_of(row: OperatorTime) -> str:
    """Return the family of an operator, one of `OPERATORS`."""
    if row.operator.endswith("_prefill"):
        return "attention of prompts"
    if row.operator.endswith("_decode"):
        return "attention of decodes"
    return _FAMILIES.get(row.family, "step")


def _count_prompts(stretches: _Stretches, instance: Ints, first_step: Ints, last_step: Ints) -> Ints:
    """Return how many requests had a chunk of their prompt in the first step of each stretch."""
    counts = np.zeros(len(stretches.instance), np.int64)
    for number in np.unique(stretches.instance):
        rows = np.flatnonzero(stretches.instance == number)
        mine = instance == number
        steps = stretches.first_step[rows]
        begun = np.searchsorted(np.sort(first_step[mine]), steps, side="right")
        counts[rows] = begun - np.searchsorted(np.sort(last_step[mine]), steps, side="left")
    return counts


def _phases(stretches: _Stretches, prompts: Ints) -> Mapping[str, Mask]:
    # Drafts that are verified are on record as tokens of a prefill.
    with_prompts = (stretches.prefill > 0) & (prompts > 0)
    decodes = stretches.decodes > 0
    chosen = (with_prompts & ~decodes, with_prompts & decodes, ~with_prompts)
    return dict(zip(PHASES, chosen, strict=True))


def _sample(
    stretches: _Stretches,
    prompts: Ints,
    pools: Sequence[PoolInfo],
    prices: Sequence[Price],
    edges_s: Floats,
    busy_s: Floats,
) -> _Parts:
    """Price steps of all pools, each pool's as many as its share of the busy time."""
    shares: defaultdict[tuple[str, str], list[float]] = defaultdict(_zeros)
    counted, recorded_s, repriced_s = _zeros(), _zeros(), _zeros()
    duration_s = stretches.duration_s
    total_s = max(float(duration_s.sum()), 1e-12)
    for pool, price in zip(pools, prices, strict=True):
        rows = np.flatnonzero(np.isin(stretches.instance, pool.instances))
        rows = rows[np.argsort(stretches.start_s[rows], kind="stable")]
        until = np.cumsum(duration_s[rows])
        count = min(round(_MOMENTS * float(duration_s[rows].sum()) / total_s), len(rows))
        moments = (np.arange(count) + 0.5) / max(count, 1) * until[-1] if count else np.empty(0)
        places = np.searchsorted(until, moments)
        chosen = rows[places]
        at_s = stretches.end_s[chosen] - (until[places] - moments)
        intervals = np.minimum(np.searchsorted(edges_s, at_s, side="right") - 1, _INTERVALS - 1)
        for row, interval in zip(chosen.tolist(), intervals.tolist(), strict=True):
            operators = price(
                int(stretches.decodes[row]), int(stretches.prefill[row]), int(stretches.running[row]),
                int(stretches.used_blocks[row]), int(prompts[row]),
            )  # fmt: skip
            priced_s = sum(each.seconds for each in operators)
            for key, seconds in _split(operators):
                shares[key][interval] += seconds / priced_s
            counted[interval] += 1
            recorded_s[interval] += float(stretches.step_s[row])
            repriced_s[interval] += priced_s
    sampled = zip(SAMPLE, (recorded_s, repriced_s), strict=True)
    return _scaled(shares, counted, busy_s) | {("sample", part): np.array(sums) for part, sums in sampled}


def _zeros() -> list[float]:
    return [0.0] * _INTERVALS


def _split(operators: Iterable[OperatorTime]) -> Iterable[tuple[tuple[str, str], float]]:
    """Yield the parts of a step's price: (split, part), seconds."""
    for row in operators:
        family = family_of(row)
        yield ("operators", family), row.seconds
        overhead = family if family in ("host", "step") else "launch"
        yield ("bounds", overhead), row.overhead_s
        if row.seconds > row.overhead_s:
            yield ("bounds", row.bound), row.seconds - row.overhead_s


def _scaled(
    shares: Mapping[tuple[str, str], list[float]], counted: Sequence[float], busy_s: Floats
) -> _Parts:
    """Turn added up shares of `counted` steps into seconds of each interval's busy time.

    An interval that no moment fell into has the mix of the whole run.
    """
    steps = np.array(counted)
    return {
        key: np.where(steps > 0, np.array(added) / np.maximum(steps, 1), sum(added) / steps.sum()) * busy_s
        for key, added in shares.items()
    }


def _busy_seconds(stretches: _Stretches, chosen: Mask, edges_s: Floats) -> Floats:
    """Return `[intervals]` for how long the chosen stretches of all instances ran in each."""

    def until(times: Floats) -> Floats:
        """Seconds that lie between each of `times` and each edge after it, added up."""
        ordered = np.sort(times)
        before = np.concatenate(([0.0], np.cumsum(ordered)))
        place = np.searchsorted(ordered, edges_s, side="right")
        return np.asarray(edges_s * place - before[place])

    passed = until(stretches.start_s[chosen]) - until(stretches.end_s[chosen])
    return np.asarray(np.maximum(np.diff(passed), 0.0))
