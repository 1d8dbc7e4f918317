"""The rate that long matrix multiplications keep, by dtype: what a power limit leaves of the peak.

A benchmark's short kernels run at boost clocks; a server computes one long GEMM after the other, on real
data, and its clocks fall as those of the longest kernels in tables do. Laboratories differ in how close they
came to the limit (cooling, constant or random data), so the rate is the lower quartile over frameworks of
their medians. What it is worth end to end stands in docs/background/fidelity.md.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simserve.cost.calibrate.accelerator_fit import RowGroup

# Kernels at least this long: power and clocks have settled. Below this width tiles, not clocks, limit them.
_LEAST_S = 3e-3
_LEAST_WIDTH = 2048
# Fewer such kernels tell nothing of a framework's table.
_FEWEST_ROWS = 10
_QUARTILE = 25.0
# Both run on the same units at the same rate.
_SAME_RATE = {"float16": "bfloat16"}


class SustainedRates:
    """Collects the long GEMMs of all groups of rows."""

    def __init__(self) -> None:
        """Start with none."""
        self._rates: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)

    def add(self, group: RowGroup) -> None:
        """Take a group's long kernels into account; those of other families have none."""
        if group.family.name != "gemm":
            return
        rows = group.rows
        long = rows[(rows["seconds"] >= _LEAST_S) & (rows[["n", "k"]].min(axis=1) >= _LEAST_WIDTH)]
        if len(long) < _FEWEST_ROWS:
            return
        rate = 2.0 * long["m"] * long["n"] * long["k"] / long["seconds"]
        dtype = _SAME_RATE.get(group.dtype, group.dtype)
        self._rates[group.accelerator.name, dtype][group.framework] = float(rate.median())

    def of(self, accelerator: str) -> dict[str, float]:
        """Return FLOP/s by dtype of an accelerator; without the dtypes that have no long kernels."""
        return {
            dtype: float(f"{np.percentile(list(rates.values()), _QUARTILE):.4g}")
            for (name, dtype), rates in sorted(self._rates.items())
            if name == accelerator
        }
