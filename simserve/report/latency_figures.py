"""Pictures of latencies: their distributions, and how they change over the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.report.figure_style import (
    BAD,
    FAIR,
    MOST_POINTS,
    MUTED,
    PLAIN,
    SERIES_COLORS,
    Window,
    color_of,
    inside,
    stack_panels,
    targets_of,
)
from simserve.report.run_folder import Floats, RunFolder
from simserve.report.thinning import binned_percentiles, thin_distribution, thin_series
from simserve.report.token_times import gap_counts

if TYPE_CHECKING:
    import plotly.graph_objects as go

LATENCIES = ("ttft", "tpot", "itl", "e2el")
# Those that need tokens of a request to come apart.
_OF_STREAMS = ("tpot", "itl")
# Intervals of time that have percentiles of their own.
_INTERVALS = 120
# Share of a distribution that is in sight.
_SHOWN = 0.998
# What takes less of an axis than this share lies on its frame.
_NARROW = 0.02
# Requests that an interval has on average, so that its p90 says something.
_REQUESTS = 20
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}


def latency_distributions(run: RunFolder) -> go.Figure:
    """Draw the distributions of TTFT, TPOT, ITL and E2EL of completed requests, with their targets."""
    figure = overlay_distributions({"": run})
    return figure.update_layout(title="Latencies: share of requests (gaps) that are no longer", height=460)


def overlay_distributions(runs: Mapping[str, RunFolder]) -> go.Figure:
    """Draw the distributions of the latencies of runs by label, with the first one's targets.

    Of a single run the targets say which share is within.
    """
    from plotly.subplots import make_subplots

    titles = [f"{name.upper()}, s" for name in LATENCIES]
    figure = make_subplots(rows=1, cols=4, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    targets = targets_of(next(iter(runs.values())))
    most = min(MOST_POINTS // (4 * len(runs)), MOST_POINTS // 40)
    for column, name in enumerate(LATENCIES, start=1):
        curves = [distribution_of(run, name, most) for run in runs.values()]
        for number, (label, (x, y)) in enumerate(zip(runs, curves, strict=True)):
            figure.add_scatter(
                x=x, y=y, mode="lines", name=label or name.upper(), legendgroup=label,
                showlegend=len(runs) > 1 and column == 1, line={"color": SERIES_COLORS[number]},
                row=1, col=column,
            )  # fmt: skip
        known = [curve for curve in curves if len(curve[0])]
        axis = _axis_of(known, targets.get(name))
        figure.update_xaxes(**axis, row=1, col=column)
        if name in targets and known:
            _add_target(figure, column, targets[name], axis, known[0] if len(runs) == 1 else None)
    return figure.update_yaxes(tickformat=".0%", range=[0, 1.02])


def _axis_of(curves: Sequence[tuple[Floats, Floats]], target_s: float | None) -> dict[str, Any]:
    """Return the axis of distributions, those that have points, with the target in sight.

    Of logarithms where half of a curve, or the target, would else lie on its frame.
    """
    targets = [] if target_s is None else [target_s]
    # The longest of all would leave the rest no room; a double click shows them.
    most = max([*targets, *(float(np.interp(_SHOWN, y, x)) for x, y in curves)], default=0.0) or 1.0
    least = min([*targets, *(float(np.interp(0.5, y, x)) for x, y in curves)], default=most)
    if not 0 < least < _NARROW * most:
        return {"type": "linear", "range": [0, most * 1.1]}
    first = min([*targets, *(float(np.interp(1 - _SHOWN, y, x)) for x, y in curves)])
    # A tenth of a decade of room at both ends, six decades at most.
    low, high = np.log10(max(first, most / 1e6)) - 0.1, np.log10(most) + 0.1
    return {"type": "log", "range": [low, high], "dtick": 1, "exponentformat": "none"}


def _add_target(
    figure: go.Figure,
    column: int,
    target_s: float,
    axis: Mapping[str, Any],
    curve: tuple[Floats, Floats] | None,
) -> None:
    """Add the line of a target, and beside it which share of a curve is within."""
    share = None if curve is None else float(np.interp(target_s, *curve, left=0.0))
    color = BAD if share is None else color_of(share)
    figure.add_vline(x=target_s, line={"color": color, "dash": "dot"}, row=1, col=column)
    if share is None:
        return
    # On an axis of logarithms lines stand at the value, words at its logarithm.
    place = float(np.log10(target_s)) if axis["type"] == "log" else target_s
    low, high = axis["range"]
    figure.add_annotation(
        x=place, y=0.0 if share > 0.5 else 1.0, text=f"{share:.1%} within", font={"color": color},
        xanchor="left" if place < (low + high) / 2 else "right", yanchor="bottom" if share > 0.5 else "top",
        showarrow=False, row=1, col=column,
    )  # fmt: skip


def distribution_of(run: RunFolder, latency: str, most: int) -> tuple[Floats, Floats]:
    """Return the points of the cumulative distribution of a latency of completed requests.

    Args:
        run: The folder of a run.
        latency: "ttft", "tpot", "itl" or "e2el".
        most: Points to return.

    Returns:
        Seconds, and the share of requests (for ITL of gaps between tokens) that took no longer; no points
        where nothing was observed: TPOT and ITL of an engine that gives all tokens of a request at once.
    """
    if latency in _OF_STREAMS and not _streams(run):
        return np.empty(0), np.empty(0)
    if latency == "itl":
        values, counts, _ = gap_counts(run)
        return thin_distribution(values, most, counts)
    values = run.requests[f"{latency}_s"][run.requests["status"] == "completed"]
    return thin_distribution(values[~np.isnan(values)], most)


def _streams(run: RunFolder) -> bool:
    """Return whether tokens of some request came apart: a static batch gives each its tokens all at once."""
    return bool((run.requests["tpot_s"] > 0).any())


def latencies_over_time(run: RunFolder, window: Window = None) -> go.Figure:
    """Draw each request's TTFT, TPOT and E2EL at the moment it was sent, and percentiles of ITL over time."""
    titles = [f"{name.upper()}, s" for name in LATENCIES]
    figure = stack_panels(titles, window, 900)
    targets = targets_of(run)
    for row, name in enumerate(LATENCIES, start=1):
        if name in _OF_STREAMS and not _streams(run):
            continue
        if name == "itl":
            _add_gaps(figure, run, window, row)
        else:
            _add_points(figure, run, name, targets.get(name), window, row)
    figure.update_yaxes(rangemode="tozero")
    legend = {"orientation": "h", "y": 1.06, "x": 1, "xanchor": "right"}
    return figure.update_layout(
        title="Latencies over time, of requests by when they were sent", legend=legend
    )


def _add_points(
    figure: go.Figure, run: RunFolder, name: str, target_s: float | None, window: Window, row: int
) -> None:
    """Add a point a request, those over the target in another colour, and the p90 over time."""
    sent_s, values = run.requests["arrival_s"], run.requests[f"{name}_s"]
    known = np.flatnonzero(~np.isnan(values) & inside(sent_s, window))
    known = known[np.argsort(sent_s[known], kind="stable")]
    x, y = thin_series(sent_s[known], values[known], MOST_POINTS // 4)
    over = y > (np.inf if target_s is None else target_s)
    for label, chosen, color in (("request", ~over, PLAIN), ("request over its target", over, BAD)):
        figure.add_scatter(
            x=x[chosen], y=y[chosen], mode="markers", marker={"size": 3, "color": color, "opacity": 0.6},
            name=label, legendgroup=label, showlegend=row == 1 and bool(chosen.any()), row=row, col=1,
        )  # fmt: skip
    if target_s is not None:
        figure.add_hline(y=target_s, line={"color": BAD, "dash": "dot", "width": 1}, row=row, col=1)
    edges = _edges(sent_s[known], window, min(max(len(known) // _REQUESTS, 1), _INTERVALS))
    (p90,) = binned_percentiles(sent_s[known], values[known], edges, [0.9])
    figure.add_scatter(
        x=edges, y=np.append(p90, p90[-1:]), mode="lines", name="p90", legendgroup="p90",
        line={"color": FAIR, "width": 2, "shape": "hv"}, showlegend=row == 1, row=row, col=1,
    )  # fmt: skip


def _add_gaps(figure: go.Figure, run: RunFolder, window: Window, row: int) -> None:
    """Add the percentiles of the gaps between tokens that ended in each interval."""
    values, counts, ends_s = gap_counts(run)
    chosen = inside(ends_s, window)
    edges = _edges(ends_s[chosen], window, _INTERVALS)
    found = binned_percentiles(
        ends_s[chosen], values[chosen], edges, list(_SHARES.values()), counts=counts[chosen]
    )
    colors = dict(zip(_SHARES, (SERIES_COLORS[2], FAIR, BAD, MUTED), strict=True))
    for name, line in zip(_SHARES, found, strict=True):
        figure.add_scatter(
            x=edges, y=np.append(line, line[-1:]), mode="lines",
            line={"color": colors[name], "width": 1.5, "shape": "hv"},
            name=name, legendgroup=name, showlegend=name != "p90", row=row, col=1,
        )  # fmt: skip


def _edges(times_s: Floats, window: Window, intervals: int) -> Floats:
    begin, end = window or (0.0, float(times_s.max(initial=0.0)))
    return np.linspace(begin, max(end, begin + 1e-9), intervals + 1)
