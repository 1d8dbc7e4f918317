"""Pictures of several runs over each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simserve.errors import UnknownNameError
from simserve.report.figure_style import MOST_POINTS, SERIES_COLORS, stack_panels
from simserve.report.latency_figures import overlay_distributions
from simserve.report.load_figures import load_series, preemptions_of
from simserve.report.run_folder import Column, Floats, RunFolder
from simserve.report.thinning import thin_series

if TYPE_CHECKING:
    import plotly.graph_objects as go

# The quantities of the picture of loads, and what they are called of all instances together.
_LOADS = {
    "running": "running requests",
    "waiting": "waiting requests",
    "tokens": "tokens in the steps at work",
    "kv_usage": "KV blocks in use, share",
}
_LEGEND = {"orientation": "h", "y": -0.15}


def draw_comparison(runs: Mapping[str, RunFolder], picture: str) -> go.Figure:
    """Draw one picture of several runs, of at most 20,000 points.

    Args:
        runs: At most twelve, by what they are called in the legend.
        picture: "latencies", their distributions with the first run's targets, or "load", what all instances
            together had to do over time: requests, tokens, KV blocks, preemptions.

    Raises:
        UnknownNameError: If there is no such picture.
        InputError: If a table of a run cannot be read.
    """
    if picture not in _COMPARISONS:
        raise UnknownNameError("picture", picture, list(_COMPARISONS))
    return _COMPARISONS[picture](runs)


def summed_load(run: RunFolder, quantity: str) -> tuple[Floats, Column]:
    """Return a quantity of all instances together: moments, and the value from each of them on.

    Args:
        run: The folder of a run.
        quantity: As of `load_series`, summed; "kv_usage" is the share of the blocks of all of them.
    """
    series = [load_series(run, instance, quantity) for instance in run.instances]
    weights = [1.0] * len(series)
    if quantity == "kv_usage":
        blocks = [float(max(run.pool_of(instance)["kv_blocks"], 1)) for instance in run.instances]
        weights = [each / sum(blocks) for each in blocks]
    moments = np.concatenate([np.empty(0), *(x for x, _ in series)])
    steps = [np.diff(y, prepend=0) * weight for (_, y), weight in zip(series, weights, strict=True)]
    changes = np.concatenate([np.empty(0), *steps])
    order = np.argsort(moments, kind="stable")
    return moments[order], np.cumsum(changes[order])


def _draw_latencies(runs: Mapping[str, RunFolder]) -> go.Figure:
    title = "Share of requests (for ITL of gaps) that took no longer"
    return overlay_distributions(runs).update_layout(title=title, legend=_LEGEND, height=440)


def _draw_load(runs: Mapping[str, RunFolder]) -> go.Figure:
    panels = [(title, {label: summed_load(run, name) for label, run in runs.items()})
              for name, title in _LOADS.items()]  # fmt: skip
    if any(run.summary["preemptions"] for run in runs.values()):
        panels.append(("preemptions until then", {label: _preempted(run) for label, run in runs.items()}))
    titles = [title for title, _ in panels]
    figure = stack_panels(titles, None, 150 * len(panels) + 110)
    most = MOST_POINTS // (len(panels) * len(runs))
    for row, (title, curves) in enumerate(panels, start=1):
        for number, (label, curve) in enumerate(curves.items()):
            x, y = thin_series(*curve, most)
            figure.add_scatter(
                x=x, y=y, mode="lines", name=label, legendgroup=label, showlegend=row == 1,
                line={"color": SERIES_COLORS[number], "width": 1, "shape": "hv"}, row=row, col=1,
            )  # fmt: skip
        figure.update_yaxes(
            rangemode="tozero", tickformat=".0%" if title.endswith("share") else None, row=row
        )
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"}
    return figure.update_layout(title="Load of all instances together", legend=legend)


def _preempted(run: RunFolder) -> tuple[Floats, Column]:
    """Return how many times requests had been preempted, from the run's start to its end."""
    moments = np.sort(preemptions_of(run)[0])
    end_s = float(run.steps["end_s"].max(initial=0.0))
    return np.concatenate(([0.0], moments, [end_s])), np.r_[: len(moments) + 1, len(moments)]


_COMPARISONS = {"latencies": _draw_latencies, "load": _draw_load}
