"""The lives of requests as lines: queued, prefill, decode, preempted, transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.report.figure_style import MOST_POINTS, Window
from simserve.report.run_folder import Column, Floats, RunFolder
from simserve.report.thinning import thin_rows

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Requests whose life is drawn one below the other.
_MOST_LIVES = 400
_COLORS = {
    "queued": "#b0b4c3", "prefill": "#e07a5f", "decode": "#3d8b7d", "preempted": "#b5485f",
    "transfer": "#e9c46a",
}  # fmt: skip


def request_lives(run: RunFolder, window: Window = None) -> go.Figure:
    """Draw what requests did when; of those that lived in the window at most 400, evenly spread over it."""
    import plotly.graph_objects as go

    requests, spans = run.requests, run.spans
    order, chosen, rows = _choose(run, window)
    begin_s, end_s = _times(run, rows)
    place = np.zeros(len(requests["request_id"]), np.int64)
    place[chosen] = np.arange(len(chosen))
    at = place[run.span_rows[rows]]
    kinds, ids = spans["kind"][rows], spans["request_id"][rows]
    nothing = np.full(len(rows), np.nan)
    figure = go.Figure()
    for kind, color in _COLORS.items():
        mine = np.flatnonzero(kinds == kind)
        if len(mine):
            # A line for each span: its two ends, and a gap.
            x = np.stack((begin_s[mine], end_s[mine], nothing[mine]), axis=1).ravel()
            figure.add_scatter(
                x=x, y=np.repeat(at[mine], 3), text=np.repeat(ids[mine], 3), mode="lines", name=kind,
                line={"color": color, "width": 3 if len(chosen) > 60 else 6},
                hovertemplate=f"request %{{text}}, {kind}: %{{x:.3f}} s<extra></extra>",
            )  # fmt: skip
    figure.update_yaxes(title_text="requests in order of arrival", autorange="reversed")
    if window is not None:
        figure.update_xaxes(range=list(window))
    title = f"Lives of {len(chosen):,} of {len(order):,} requests"
    title += "" if window is None else f" that lived from {window[0]:,.4g} s to {window[1]:,.4g} s"
    return figure.update_xaxes(title_text="s").update_layout(title=title, height=700)


def _choose(run: RunFolder, window: Window) -> tuple[Column, Column, Column]:
    """Return the rows of the window's requests by arrival, of those to be drawn, and of their spans."""
    requests = run.requests
    order = np.lexsort((requests["request_id"], requests["arrival_s"]))
    keep = requests["instance"][order] >= 0
    if window is not None:
        finish_s = np.nan_to_num(requests["finish_s"][order], nan=np.inf)
        keep &= (requests["arrival_s"][order] <= window[1]) & (finish_s >= window[0])
    order = order[keep]
    chosen = order[thin_rows(len(order), _MOST_LIVES)] if len(order) else order
    while True:
        drawn = np.zeros(len(requests["request_id"]), bool)
        drawn[chosen] = True
        rows = np.flatnonzero(drawn[run.span_rows])
        # Three points a span: lives of many preemptions are drawn more sparsely.
        if 3 * len(rows) <= MOST_POINTS:
            return order, chosen, rows
        chosen = chosen[::2]


def _times(run: RunFolder, rows: Column) -> tuple[Floats, Floats]:
    """Return when spans began and ended, in seconds."""
    first, last = run.spans["first_step"][rows], run.spans["last_step"][rows]
    instances = run.requests["instance"][run.span_rows[rows]]
    begin_s, end_s = np.zeros(len(rows)), np.zeros(len(rows))
    for instance in np.unique(instances).tolist():
        mine = np.flatnonzero(instances == instance)
        begin_s[mine] = run.step_starts[instance][first[mine]]
        end_s[mine] = run.step_ends[instance][last[mine]]
    return begin_s, end_s
