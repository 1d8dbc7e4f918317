"""Pictures of steps: how long they took, and where their time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simserve.report.figure_style import MOST_POINTS, MUTED, SERIES_COLORS
from simserve.report.run_folder import RunFolder
from simserve.report.thinning import thin_rows
from simserve.report.time_parts import BOUNDS, IDLE, OPERATORS, PHASES, split_time

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PARTS = {
    **dict(zip(OPERATORS, SERIES_COLORS, strict=False)),
    **dict(zip(BOUNDS, SERIES_COLORS[1:], strict=False)),
    **dict(zip(PHASES, SERIES_COLORS[6:], strict=False)),
    "host": MUTED, "step": MUTED, IDLE: "#8d99ae30",
}  # fmt: skip


def step_durations(run: RunFolder) -> go.Figure:
    """Draw how long steps took by the tokens in them: decodes alone, and with prompts."""
    import plotly.graph_objects as go

    steps = run.steps
    duration_s = (steps["end_s"] - steps["start_s"]) / np.maximum(steps["steps"], 1)
    figure = go.Figure()
    for name, chosen in (
        ("decodes alone", steps["prefill_tokens"] == 0),
        ("with prompts", steps["prefill_tokens"] > 0),
    ):
        rows = np.flatnonzero(chosen)
        if len(rows):
            rows = rows[thin_rows(len(rows), MOST_POINTS // 2)]
            tokens = steps["prefill_tokens"][rows] + steps["decode_tokens"][rows]
            figure.add_scatter(
                x=tokens, y=duration_s[rows] * 1e3, mode="markers", marker={"size": 3}, name=name
            )
    figure.update_xaxes(title_text="tokens in the step", type="log", dtick=1)
    figure.update_yaxes(title_text="ms", type="log", dtick=1)
    return figure.update_layout(title="Duration of steps")


def step_time(run: RunFolder) -> go.Figure:
    """Draw where the time of the steps went: by operator, by what was waited for and was in them, over time.

    Raises:
        InputError: As `split_time`.
    """
    from plotly.subplots import make_subplots

    found = split_time(run)
    figure = make_subplots(
        rows=2, cols=1, row_heights=[0.4, 0.6], vertical_spacing=0.12,
        subplot_titles=("share of the time in steps", "share of all instances' time"),
    )  # fmt: skip
    for label, parts in (
        ("steps with", found.phases), ("waiting for", found.bounds), ("operators", found.operators),
    ):  # fmt: skip
        _add_bar(figure, label, parts)
    middle_s = (found.edges_s[:-1] + found.edges_s[1:]) / 2
    for name, shares in found.over_time.items():
        figure.add_scatter(
            x=middle_s, y=shares, mode="lines", stackgroup="time", name=name, showlegend=name == IDLE,
            line={"width": 0.5, "color": _PARTS[name], "shape": "spline", "smoothing": 0},
            hovertemplate="%{y:.1%} at %{x:.4~g} s", row=2, col=1,
        )  # fmt: skip
    figure.update_xaxes(tickformat=".0%", range=[0, 1], row=1, col=1)
    figure.update_yaxes(tickformat=".0%", range=[0, 1], row=2, col=1)
    figure.update_xaxes(title_text="s", row=2, col=1)
    title = (
        f"Where {found.busy_s:,.4g} s of steps went: a sample of them priced again, "
        f"which gives {found.repriced:.0%} of their time on record"
    )
    return figure.update_layout(title=title, barmode="stack", height=700, legend={"traceorder": "grouped"})


def _add_bar(figure: go.Figure, label: str, parts: Mapping[str, float]) -> None:
    for name, share in sorted(parts.items(), key=lambda part: -part[1]):
        # As much as there is room for.
        text = f"{name} {share:.0%}" if share >= 0.011 * (len(name) + 4) else f"{share:.0%}"
        text = text if share >= 0.04 else ""
        figure.add_bar(
            x=[share], y=[label], orientation="h", name=name, marker={"color": _PARTS[name]}, text=[text],
            textposition="inside", insidetextanchor="middle", textangle=0, constraintext="none",
            textfont={"size": 12, "color": "white"}, legendgroup=label, legendgrouptitle={"text": label},
            hovertemplate=f"{name}: %{{x:.1%}}<extra></extra>", row=1, col=1,
        )  # fmt: skip
