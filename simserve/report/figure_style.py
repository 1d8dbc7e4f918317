"""The look of all pictures of a run, and the part of its time that they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from simserve.report.run_folder import Floats, RunFolder

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Points of all curves of one picture together.
MOST_POINTS = 20_000
# From and to, in seconds of simulated time; None: the whole run.
Window = tuple[float, float] | None
# Told apart on light and on dark grounds, and by people who do not tell red from green.
GOOD, FAIR, BAD, PLAIN, MUTED = "#3fa58a", "#d9a521", "#d1495b", "#4c8bd6", "#8d99ae"
SERIES_COLORS = (
    "#4c8bd6", "#e07a5f", "#3d8b7d", "#e9c46a", "#b5485f", "#8d99ae", "#6a4c93", "#2a9d8f", "#f4a261",
    "#4f7f94", "#bc6c25", "#5a7d2a",
)  # fmt: skip


def style(figure: go.Figure) -> go.Figure:
    """Give a picture the look of all of them."""
    return figure.update_layout(template="plotly_white", margin={"l": 60, "r": 20, "t": 70, "b": 50})


def inside(times_s: Floats, window: Window) -> npt.NDArray[np.bool_]:
    """Return `[n]` which moments lie in the window."""
    if window is None:
        return np.ones(len(times_s), bool)
    return np.asarray((times_s >= window[0]) & (times_s <= window[1]))


def stack_panels(titles: list[str], window: Window, height: int) -> go.Figure:
    """Return a picture of panels one below the other, over the same time."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=len(titles), cols=1, shared_xaxes=True, subplot_titles=titles,
        vertical_spacing=0.3 / max(len(titles), 1) ** 1.25,
    )  # fmt: skip
    if window is not None:
        figure.update_xaxes(range=list(window))
    return figure.update_xaxes(title_text="s", row=len(titles), col=1).update_layout(height=height)


def targets_of(run: RunFolder) -> dict[str, float]:
    """Return the targets of the run's `slo` in seconds, by latency; those of classes are left out."""
    slo: dict[str, Any] = run.scenario.get("slo") or {}
    known = {name: slo.get(f"{name}_s") for name in ("ttft", "tpot", "e2el")}
    return {name: float(value) for name, value in known.items() if value is not None}


def color_of(share: float) -> str:
    """Return the colour of a share of requests within their target: good from 99 % on, fair from 90 % on."""
    return GOOD if share >= 0.99 else FAIR if share >= 0.9 else BAD
