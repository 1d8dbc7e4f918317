"""Pictures of a workload: when its requests come, how long they are, how much of their prompts is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.plots import COLORS
from simserve import ReuseCurve, Workload, thin_series

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_POINTS = 20_000
_BINS = 60
# About this many intervals in which arrivals are counted.
_INTERVALS = 600
_SECONDS = (1, 2, 5, 10, 30, 60, 300, 900, 3600)


def draw_arrivals(load: Workload) -> go.Figure:
    """Draw the rate of arrivals over time, in intervals of whole seconds."""
    import plotly.graph_objects as go

    since_s = (load.arrival_ns - load.arrival_ns[0]) / 1e9
    wide = next((each for each in _SECONDS if since_s[-1] / each <= _INTERVALS), _SECONDS[-1])
    rate = np.bincount((since_s // wide).astype(np.int64)) / wide
    x, y = thin_series(np.arange(len(rate), dtype=np.float64) * wide, rate, _MOST_POINTS)
    figure = go.Figure(go.Scatter(x=x, y=y, mode="lines", line={"shape": "hv", "color": COLORS[0]}))
    figure.add_hline(y=len(since_s) / max(since_s[-1], 1e-9), line_dash="dot", line_color=COLORS[5])
    figure.update_xaxes(title_text="s").update_yaxes(title_text="requests/s", rangemode="tozero")
    return figure.update_layout(title=f"Arrivals in intervals of {wide} s, and their mean", height=360)


def draw_gaps(load: Workload) -> go.Figure:
    """Draw the distribution of the gaps between arrivals beside those of a Poisson process."""
    import plotly.graph_objects as go

    gaps_s = np.sort(np.diff(load.arrival_ns)) / 1e9
    shares = np.linspace(0, 1, 1000, endpoint=False)
    figure = go.Figure()
    figure.add_scatter(x=np.quantile(gaps_s, shares), y=shares, name="this workload", line_color=COLORS[0])
    poisson = -np.log1p(-shares) * gaps_s.mean()
    figure.add_scatter(x=poisson, y=shares, name="Poisson", line={"color": COLORS[5], "dash": "dot"})
    figure.update_xaxes(title_text="gap, s", range=[0, float(np.quantile(gaps_s, 0.99))])
    legend = {"orientation": "h", "y": 1.1, "x": 0.5}
    return figure.update_layout(title="Gaps: share no longer", height=360, legend=legend)


def draw_dispersion(load: Workload) -> go.Figure:
    """Draw the index of dispersion of the arrivals by the interval in which they are counted.

    Variance over mean of the counts: 1 at any interval for a Poisson process; it grows with the interval
    where bursts last longer than it.
    """
    import plotly.graph_objects as go

    since_s = (load.arrival_ns - load.arrival_ns[0]) / 1e9
    wide, found = [], []
    for interval_s in np.geomspace(0.01, max(since_s[-1] / 10, 0.02), 40).tolist():
        counts = np.bincount((since_s // interval_s).astype(np.int64))
        wide.append(interval_s)
        found.append(float(counts.var() / counts.mean()))
    figure = go.Figure()
    figure.add_scatter(x=wide, y=found, name="this workload", line_color=COLORS[0], mode="lines+markers")
    figure.add_scatter(
        x=[wide[0], wide[-1]],
        y=[1, 1],
        name="Poisson",
        line={"color": COLORS[5], "dash": "dot"},
        mode="lines",
    )
    figure.update_xaxes(title_text="interval, s", type="log", dtick=1).update_yaxes(type="log", dtick="D2")
    legend = {"orientation": "h", "y": 1.1, "x": 0.5}
    return figure.update_layout(title="Dispersion of arrivals", height=360, legend=legend)


def draw_reuse(curve: ReuseCurve) -> go.Figure:
    """Draw the share of prompt tokens that prefix caches of every size would hit."""
    import plotly.graph_objects as go

    figure = go.Figure()
    look: dict[str, Any] = {"color": COLORS[0], "shape": "hv"}
    figure.add_scatter(x=curve.cache_tokens, y=curve.hit_share, mode="lines", line=look, name="hits")
    best = float(curve.hit_share[-1])
    figure.add_hline(y=best, line_dash="dot", line_color=COLORS[5], annotation_text=f"at best {best:.1%}")
    figure.update_xaxes(title_text="size of the cache, tokens", type="log", dtick=1)
    figure.update_yaxes(title_text="prompt tokens hit", tickformat=".0%", rangemode="tozero")
    return figure.update_layout(title="Reuse by size of the prefix cache", height=460)


def draw_lengths(load: Workload) -> go.Figure:
    """Draw how many requests have prompts and outputs of which length."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, subplot_titles=("prompt, tokens", "output, tokens"))
    for column, tokens in enumerate((load.prompt_tokens, load.output_tokens), start=1):
        known = np.maximum(tokens, 1)
        edges = np.geomspace(1, max(int(known.max()), 2) + 1, _BINS + 1)
        counts, _ = np.histogram(known, edges)
        bar: dict[str, Any] = {"marker_color": COLORS[column - 1], "width": np.diff(edges)}
        figure.add_bar(x=np.sqrt(edges[1:] * edges[:-1]), y=counts, row=1, col=column, **bar)
    figure.update_xaxes(type="log")
    return figure.update_layout(title="Lengths", showlegend=False, height=360, bargap=0)


def draw_prompts_over_time(load: Workload) -> go.Figure:
    """Draw each request's prompt at the moment it comes; the longest and the shortest always stay."""
    import plotly.graph_objects as go

    x, y = thin_series((load.arrival_ns - load.arrival_ns[0]) / 1e9, load.prompt_tokens, _MOST_POINTS // 4)
    figure = go.Figure(go.Scattergl(x=x, y=y, mode="markers", marker={"size": 3, "color": COLORS[0]}))
    figure.update_xaxes(title_text="s").update_yaxes(title_text="tokens", type="log")
    return figure.update_layout(title="Prompts over time", height=360)
