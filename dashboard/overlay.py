"""Several runs in one picture, and in one table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.plots import COLORS
from dashboard.run_figures import observed_figures
from simserve import RunFolder, differing_settings, distribution_of, load_series, thin_series

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

# Points of all curves of one picture together.
MOST_POINTS = 20_000
# Share of a distribution that is in sight; a double click shows all of it.
_SHOWN = 0.998
_LATENCIES = ("ttft", "tpot", "itl", "e2el")
# What stands first in the table of differences; all other figures come after it.
_FIRST = (
    "completed", "failed", "duration", "request_throughput", "output_throughput", "slo_attainment",
    "p90_ttft_ms", "p99_ttft_ms", "p90_tpot_ms", "p99_tpot_ms", "p99_itl_ms", "p90_e2el_ms", "preemptions",
    "prefix_cache_hit_rate", "kv_cache_peak_usage",
)  # fmt: skip


def overlay_latencies(runs: Mapping[str, RunFolder], slo: Mapping[str, Any]) -> go.Figure:
    """Draw the distributions of TTFT, TPOT, ITL, E2EL of completed requests, and the first run's targets."""
    from plotly.subplots import make_subplots

    titles = [f"{name.upper()}, s" for name in _LATENCIES]
    figure = make_subplots(rows=1, cols=4, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    most = MOST_POINTS // (4 * len(runs))
    reach = dict.fromkeys(_LATENCIES, 0.0)
    for number, (label, run) in enumerate(runs.items()):
        for column, name in enumerate(_LATENCIES, start=1):
            x, y = distribution_of(run, name, min(most, 500))
            reach[name] = max(reach[name], float(np.interp(_SHOWN, y, x)) if len(x) else 0.0)
            figure.add_scatter(
                x=x, y=y, mode="lines", name=label, legendgroup=label, showlegend=column == 1,
                line={"color": COLORS[number]}, row=1, col=column,
            )  # fmt: skip
    for column, name in enumerate(_LATENCIES, start=1):
        target_s = slo.get(f"{name}_s")
        # Nothing was observed of what reaches nowhere: its axis still starts at 0.
        most_s = max(reach[name], target_s or 0.0) or 1.0
        figure.update_xaxes(range=[0, most_s * 1.1], row=1, col=column)
        if target_s is not None:
            figure.add_vline(x=slo[f"{name}_s"], line_dash="dot", line_color="#d1495b", row=1, col=column)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    legend = {"orientation": "h", "y": -0.15}
    return figure.update_layout(
        title="Share of requests (for ITL of gaps) that took no longer", legend=legend, height=440
    )


def overlay_load(runs: Mapping[str, RunFolder]) -> go.Figure:
    """Draw the running and waiting requests of all instances together over time."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, subplot_titles=("running", "waiting"))
    most = MOST_POINTS // (2 * len(runs))
    for number, (label, run) in enumerate(runs.items()):
        for row, name in enumerate(("running", "waiting"), start=1):
            x, y = thin_series(*summed_load(run, name), most)
            figure.add_scatter(
                x=x, y=y, mode="lines", name=label, legendgroup=label, showlegend=row == 1,
                line={"color": COLORS[number], "width": 1, "shape": "hv"}, row=row, col=1,
            )  # fmt: skip
    figure.update_xaxes(title_text="s", row=2)
    return figure.update_layout(title="Requests in all instances", height=500, legend={"orientation": "h"})


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


def summed_load(run: RunFolder, quantity: str) -> tuple[Any, Any]:
    """Return a quantity of all instances together: moments, and the value from each of them on."""
    series = [load_series(run, instance, quantity) for instance in run.instances]
    moments = np.concatenate([np.empty(0), *(x for x, _ in series)])
    changes = np.concatenate([np.empty(0), *(np.diff(y, prepend=0) for _, y in series)])
    order = np.argsort(moments, kind="stable")
    return moments[order], np.cumsum(changes[order])


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
