"""Several runs in one table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.plots import format_change, format_figure, percent
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
# Ends of figures: shares of one, what is better when it is larger, and what when it is smaller.
_SHARES = ("attainment", "hit_rate", "usage")
_LARGER = ("throughput", "goodput", "attainment", "hit_rate", "completed")
_SMALLER = ("_ms", "duration", "failed", "unfinished", "preemptions", "energy_j", "cost_usd")
# Changes of less than this share of the first run's value are not coloured.
_SMALL = 0.01


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


def figure_table(runs: Mapping[str, RunFolder]) -> pd.DataFrame:
    """Return the same as people read it: a column a run, shares in per cent, changes in brackets.

    Of a share the change is in points of a per cent.
    """
    table = difference_table(runs)
    first, *others = runs
    shown = table[["figure"]].copy()
    shown[first] = [_write(*row) for row in table[["figure", first]].itertuples(index=False)]
    for label in others:
        rows = table[["figure", first, label, f"{label}, change in %"]].itertuples(index=False)
        shown[label] = [f"{_write(name, value)}{_change(name, base, value, change)}"
                        for name, base, value, change in rows]  # fmt: skip
    return shown


def judge_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Return which changes of `difference_table` are for the better (1), for the worse (-1) or neither (0).

    Smaller ones than a hundredth are neither, nor are those of figures that are no aim of their own.
    """
    aims, base = table["figure"].map(_aim), table.iloc[:, 1].astype(float)
    judged = table[["figure", *table.columns[2::2]]].copy()
    for label in judged.columns[1:]:
        change = table[label].astype(float) - base
        judged[label] = np.sign(change.where(change.abs() > _SMALL * base.abs(), 0.0)).astype(int) * aims
    return judged


def _aim(figure: str) -> int:
    """Return 1 for a figure that is better when it is larger, -1 for one that is better smaller, else 0."""
    if figure.endswith(_LARGER):
        return 1
    return -1 if figure.endswith(_SMALLER) else 0


def _write(figure: str, value: Any) -> str:
    if value is None or value != value:
        return "–"
    return percent(value) if figure.endswith(_SHARES) else format_figure(value)


def _change(figure: str, base: Any, value: Any, change: Any) -> str:
    if change is None or change != change:
        return ""
    if value == base:
        return " (=)"
    if figure.endswith(_SHARES):
        return f" ({(value - base) * 100:+.1f})"
    told = format_change(change)
    return f" ({told})" if told.startswith("x") else f" ({told} %)"


def setting_table(runs: Mapping[str, RunFolder]) -> pd.DataFrame:
    """Return a row a key of the scenarios in which the runs differ, those of engines and pools first.

    A section that one of them has not got is one row.
    """
    import pandas as pd

    scenarios = [run.scenario for run in runs.values()]
    rows: dict[str, list[str]] = {}
    for key in differing_settings(scenarios):
        at = _shared_way(key, scenarios)
        rows.setdefault(at, [_setting(_value_at(scenario, at)) for scenario in scenarios])
    rows.pop("name", None)
    ordered = sorted(rows, key=lambda key: not key.startswith(("pools", "model")))
    return pd.DataFrame([[key, *rows[key]] for key in ordered], columns=["key", *runs])


def _shared_way(key: str, scenarios: Sequence[Mapping[str, Any]]) -> str:
    """Return a key, or the way to the first section above it that some scenario has and another has not."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        way = ".".join(parts[:length])
        if any(_value_at(scenario, way) is None for scenario in scenarios):
            return way
    return key


def _value_at(section: Any, way: str) -> Any:
    """Return what a scenario has at a dotted key; None where it has nothing."""
    for part in way.split("."):
        if isinstance(section, Mapping):
            section = section.get(part)
        elif isinstance(section, list) and part.isdigit() and int(part) < len(section):
            section = section[int(part)]
        else:
            return None
    return section


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_setting(each)}" for key, each in value.items() if each is not None)
    return "–" if value is None else str(value)


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
