"""Mean, median, deviation and percentiles, as `vllm bench serve` computes them, plain and weighted.

The definitions are numpy's defaults, which vLLM uses (vllm/benchmarks/serve.py, 0.19): the deviation is the
population's, percentiles interpolate linearly between the two nearest values.
"""

from __future__ import annotations

import math

import numpy as np

from simserve.metrics.columns import Floats, Ints

PERCENTILES = (90, 95, 99)
_NS_PER_MS = 1e6
# Sign, exponent and 12 of 52 mantissa bits stay: bins of a 4,096th of an octave.
_BIN_SHIFT = 40
_HIGHEST_BIN = np.iinfo(np.int64).max >> _BIN_SHIFT


def describe_ns(metric: str, values_ns: Ints | Floats) -> dict[str, float | None]:
    """Describe times in ns under vLLM's keys (`mean_ttft_ms`, ...), in ms; all None if there is no value.

    Args:
        metric: The metric's short name in the keys ("ttft").
        values_ns: `[n]`.
    """
    return describe_weighted_ns(metric, values_ns, np.ones(len(values_ns), dtype=np.int64))


def describe_weighted_ns(metric: str, values_ns: Ints | Floats, weights: Ints) -> dict[str, float | None]:
    """Describe times of which value `i` occurs `weights[i]` times, equal to describing them all one by one.

    Args:
        metric: The metric's short name in the keys ("itl").
        values_ns: `[n]`, not negative.
        weights: `[n]`, how often each value occurs; may be 0.
    """
    total = int(weights.sum())
    if total == 0:
        return _named(metric, [None] * (3 + len(PERCENTILES)))
    values = np.asarray(values_ns, dtype=np.float64) / _NS_PER_MS
    mean = float(values @ weights) / total
    quantiles = _percentiles(values, weights, total)
    values -= mean
    np.multiply(values, values, out=values)
    spread = math.sqrt(float(values @ weights) / total)
    return _named(metric, [mean, quantiles[0], spread, *quantiles[1:]])


def _percentiles(values: Floats, weights: Ints, total: int) -> list[float]:
    """Return the median and the `PERCENTILES`.

    Only the neighbourhood of each is sorted: values fall into bins of their leading bits (which order floats
    that are not negative), and a bin is looked into only if a wanted rank lies in it.
    """
    bins = values.view(np.int64) >> _BIN_SHIFT
    # Zeros share the lowest bin: their leading bits are millions of bins below those of a nanosecond.
    bins -= bins.min(where=bins > 0, initial=_HIGHEST_BIN)
    np.maximum(bins, 0, out=bins)
    below = np.cumsum(np.bincount(bins, weights=weights).astype(np.int64))
    opened: dict[int, tuple[Floats, Ints]] = {}

    def at_rank(rank: int) -> float:
        """Return the value at `rank` (from 0) of the sorted multiset."""
        number = int(np.searchsorted(below, rank, side="right"))
        if number not in opened:
            inside = np.flatnonzero(bins == number)
            order = inside[np.argsort(values[inside], kind="stable")]
            before = int(below[number - 1]) if number else 0
            opened[number] = values[order], before + np.cumsum(weights[order])
        ordered, through = opened[number]
        return float(ordered[np.searchsorted(through, rank, side="right")])

    found = []
    for percent in (50, *PERCENTILES):
        position = (total - 1) * percent / 100
        rank = math.floor(position)
        low, high = at_rank(rank), at_rank(min(rank + 1, total - 1))
        found.append(low + (high - low) * (position - rank))
    return found


def _named(metric: str, figures: list[float | None]) -> dict[str, float | None]:
    keys = ("mean", "median", "std", *(f"p{percent}" for percent in PERCENTILES))
    return {f"{key}_{metric}_ms": figure for key, figure in zip(keys, figures, strict=True)}
