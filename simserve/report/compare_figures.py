"""Pictures of several runs over each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simserve.errors import UnknownNameError
from simserve.report.figure_style import MOST_POINTS, SERIES_COLORS
from simserve.report.latency_figures import overlay_distributions
from simserve.report.load_figures import load_series
from simserve.report.run_folder import Column, Floats, RunFolder
from simserve.report.thinning import thin_series

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LEGEND = {"orientation": "h", "y": -0.15}


def draw_comparison(runs: Mapping[str, RunFolder], picture: str) -> go.Figure:
    """Draw one picture of several runs, of at most 20,000 points.

    Args:
        runs: At most twelve, by what they are called in the legend.
        picture: "latencies", their distributions with the first run's targets, or "load", the running and
            waiting requests of all instances together over time.

    Raises:
        UnknownNameError: If there is no such picture.
        InputError: If a table of a run cannot be read.
    """
    if picture not in _COMPARISONS:
        raise UnknownNameError("picture", picture, list(_COMPARISONS))
    return _COMPARISONS[picture](runs)


def summed_load(run: RunFolder, quantity: str) -> tuple[Floats, Column]:
    """Return a quantity of all instances together: moments, and the value from each of them on."""
    series = [load_series(run, instance, quantity) for instance in run.instances]
    moments = np.concatenate([np.empty(0), *(x for x, _ in series)])
    changes = np.concatenate([np.empty(0), *(np.diff(y, prepend=0) for _, y in series)])
    order = np.argsort(moments, kind="stable")
    return moments[order], np.cumsum(changes[order])


def _draw_latencies(runs: Mapping[str, RunFolder]) -> go.Figure:
    title = "Share of requests (for ITL of gaps) that took no longer"
    return overlay_distributions(runs).update_layout(title=title, legend=_LEGEND, height=440)


def _draw_load(runs: Mapping[str, RunFolder]) -> go.Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, subplot_titles=("running", "waiting"))
    most = MOST_POINTS // (2 * len(runs))
    for number, (label, run) in enumerate(runs.items()):
        for row, name in enumerate(("running", "waiting"), start=1):
            x, y = thin_series(*summed_load(run, name), most)
            figure.add_scatter(
                x=x, y=y, mode="lines", name=label, legendgroup=label, showlegend=row == 1,
                line={"color": SERIES_COLORS[number], "width": 1, "shape": "hv"}, row=row, col=1,
            )  # fmt: skip
    figure.update_xaxes(title_text="s", row=2)
    return figure.update_layout(title="Requests in all instances", height=500, legend=_LEGEND)


_COMPARISONS = {"latencies": _draw_latencies, "load": _draw_load}
