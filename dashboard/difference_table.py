"""Several runs in one table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dashboard.run_figures import observed_figures
from simserve import RunFolder, differing_settings

if TYPE_CHECKING:
    import pandas as pd

# What stands first in the table of differences; all other figures come after it.
_FIRST = (
    "completed", "failed", "duration", "request_throughput", "output_throughput", "slo_attainment",
    "p90_ttft_ms", "p99_ttft_ms", "p90_tpot_ms", "p99_tpot_ms", "p99_itl_ms", "p90_e2el_ms", "preemptions",
    "prefix_cache_hit_rate", "kv_cache_peak_usage",
)  # fmt: skip


def difference_table(runs: Mapping[str, RunFolder]) -> pd.DataFrame:
    """Return a row a figure: each run's value, and its distance from the first run's in per cent."""
    import pandas as pd

    first, *others = runs
    known = [observed_figures(run.summary) for run in runs.values()]
    keys = [*_FIRST, *(key for key in known[0] if key not in _FIRST and key != "seed")]
    rows = []
    for key in keys:
        values = [summary.get(key) for summary in known]
        if any(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            row: dict[str, Any] = {"figure": key} | dict(zip(runs, values, strict=True))
            for label, value in zip(others, values[1:], strict=True):
                base = values[0]
                row[f"{label}, change in %"] = None if not base or value is None else (value / base - 1) * 100
            rows.append(row)
    columns = ["figure", first, *(name for label in others for name in (label, f"{label}, change in %"))]
    return pd.DataFrame(rows, columns=columns)


def setting_table(runs: Mapping[str, RunFolder]) -> pd.DataFrame:
    """Return a row a key of the scenarios in which the runs differ."""
    import pandas as pd

    found = differing_settings([run.scenario for run in runs.values()])
    rows = [
        [key, *("–" if value is None else str(value) for value in values)] for key, values in found.items()
    ]
    return pd.DataFrame(rows, columns=["key", *runs])


def short_labels(names: Sequence[str], titles: Mapping[str, str] | None = None) -> list[str]:
    """Return the names' last parts without a hash at their ends, or more where those are not told apart.

    Args:
        names: Labels of runs.
        titles: What stands for some of them as it is.
    """
    known = titles or {}
    last = [known.get(name) or name.rpartition("/")[2] for name in names]
    short = [re.sub(r"-[0-9a-f]{12}$", "", part) for part in last]
    return next((each for each in (short, last) if len(set(each)) == len(each)), list(names))
