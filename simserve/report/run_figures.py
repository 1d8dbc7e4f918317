"""Pictures of a run, from its folder: for the HTML report and the dashboard alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.errors import UnknownNameError
from simserve.report.run_folder import Column, Floats, RunFolder
from simserve.report.thinning import thin_distribution, thin_rows, thin_series
from simserve.report.token_times import gap_counts

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Points of all curves of one picture together.
MOST_POINTS = 20_000
# More instances than this are drawn as their sum.
_MOST_INSTANCES = 12
_INSTANCE_COLORS = (
    "#4c8bd6", "#e07a5f", "#3d8b7d", "#e9c46a", "#b5485f", "#8d99ae", "#6a4c93", "#2a9d8f", "#f4a261",
    "#4f7f94", "#bc6c25", "#5a7d2a",
)  # fmt: skip
# Requests whose life is drawn one below the other.
_MOST_LIVES = 400
_LATENCIES = ("ttft", "tpot", "e2el")
_COLORS = {
    "queued": "#b0b4c3", "prefill": "#e07a5f", "decode": "#3d8b7d", "preempted": "#b5485f",
    "transfer": "#e9c46a",
}  # fmt: skip


def latency_distributions(run: RunFolder) -> go.Figure:
    """Draw the cumulative distributions of TTFT, TPOT, ITL and E2EL of completed requests."""
    from plotly.subplots import make_subplots

    names = [*_LATENCIES, "itl"]
    figure = make_subplots(rows=1, cols=4, subplot_titles=[f"{name.upper()}, s" for name in names])
    for column, name in enumerate(names, start=1):
        values, counts = gap_counts(run) if name == "itl" else (_latency(run, name), None)
        x, y = thin_distribution(values, MOST_POINTS // 40, counts)
        figure.add_scatter(x=x, y=y, mode="lines", name=name.upper(), showlegend=False, row=1, col=column)
    return figure.update_layout(title="Latencies: share of requests (gaps) that are no longer")


def latencies_over_time(run: RunFolder) -> go.Figure:
    """Draw each request's TTFT, TPOT and E2EL at the moment it was sent."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, subplot_titles=[f"{name.upper()}, s" for name in _LATENCIES]
    )
    order = np.argsort(run.requests["arrival_s"], kind="stable")
    for row, name in enumerate(_LATENCIES, start=1):
        values = run.requests[f"{name}_s"][order]
        known = ~np.isnan(values)
        x, y = thin_series(run.requests["arrival_s"][order][known], values[known], MOST_POINTS // 4)
        marks = {"mode": "markers", "marker": {"size": 3}}
        figure.add_scatter(x=x, y=y, **marks, name=name.upper(), showlegend=False, row=row, col=1)
    return figure.update_xaxes(title_text="sent, s", row=3).update_layout(title="Latencies over time")


def load_over_time(run: RunFolder) -> go.Figure:
    """Draw running and waiting requests, tokens a step and the share of KV blocks in use, by instance."""
    from plotly.subplots import make_subplots

    titles = ("running", "waiting", "tokens a step", "KV blocks in use, share")
    figure = make_subplots(rows=4, cols=1, shared_xaxes=True, subplot_titles=titles)
    shown = run.instances[:_MOST_INSTANCES]
    most = MOST_POINTS // (4 * max(len(shown), 1))
    for number, instance in enumerate(shown):
        rows = np.flatnonzero(run.steps["instance"] == instance)
        line = {"shape": "hv", "width": 1, "color": _INSTANCE_COLORS[number % len(_INSTANCE_COLORS)]}
        for place, values in enumerate(_loads(run, instance, rows), start=1):
            x, y = thin_series(run.steps["start_s"][rows], values, most)
            figure.add_scatter(
                x=x, y=y, mode="lines", line=line, name=f"instance {instance}",
                legendgroup=str(instance), showlegend=place == 1, row=place, col=1,
            )  # fmt: skip
    note = f" (the first {_MOST_INSTANCES} of {len(run.instances)} instances)"
    more = note if len(run.instances) > _MOST_INSTANCES else ""
    return figure.update_xaxes(title_text="s", row=4).update_layout(title=f"Load over time{more}", height=700)


def request_lives(run: RunFolder) -> go.Figure:
    """Draw what requests did when: queued, prefill, decode, preempted; evenly spread over the run."""
    import plotly.graph_objects as go

    requests, spans = run.requests, run.spans
    order = np.lexsort((requests["request_id"], requests["arrival_s"]))
    order = order[requests["instance"][order] >= 0]
    chosen = order[thin_rows(len(order), _MOST_LIVES)] if len(order) else order
    rows = np.flatnonzero(np.isin(spans["request_id"], requests["request_id"][chosen])).tolist()
    while (
        3 * len(rows) > MOST_POINTS
    ):  # three points a span: lives of many preemptions are drawn more sparsely
        chosen = chosen[::2]
        rows = np.flatnonzero(np.isin(spans["request_id"], requests["request_id"][chosen])).tolist()
    place = {int(requests["request_id"][row]): at for at, row in enumerate(chosen)}
    instance = dict(zip(requests["request_id"].tolist(), requests["instance"].tolist(), strict=True))
    figure = go.Figure()
    for kind, color in _COLORS.items():
        lines: list[tuple[float | None, float | None]] = []
        for row in (row for row in rows if spans["kind"][row] == kind):
            key = int(spans["request_id"][row])
            begin = run.step_starts[instance[key]][int(spans["first_step"][row])]
            end = run.step_ends[instance[key]][int(spans["last_step"][row])]
            lines += [(float(begin), place[key]), (float(end), place[key]), (None, None)]
        if lines:
            x, y = zip(*lines, strict=True)
            figure.add_scatter(x=x, y=y, mode="lines", line={"color": color, "width": 3}, name=kind)
    figure.update_yaxes(title_text="requests in order of arrival", autorange="reversed")
    title = f"Lives of {len(chosen):,} of {len(requests['request_id']):,} requests"
    return figure.update_xaxes(title_text="s").update_layout(title=title, height=700)


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
    figure.update_xaxes(title_text="tokens in the step", type="log").update_yaxes(title_text="ms", type="log")
    return figure.update_layout(title="Duration of steps")


def style(figure: go.Figure) -> go.Figure:
    """Give a picture the look of all of them."""
    return figure.update_layout(template="plotly_white", margin={"l": 60, "r": 20, "t": 70, "b": 50})


FIGURES = (latency_distributions, latencies_over_time, load_over_time, request_lives, step_durations)


def draw_run(run: RunFolder, picture: str) -> go.Figure:
    """Draw one picture of a run, of at most 20,000 points.

    Args:
        run: The folder of a run.
        picture: "latency_distributions", "latencies_over_time", "load_over_time", "request_lives" or
            "step_durations".

    Raises:
        UnknownNameError: If there is no such picture.
        InputError: If a table of the run cannot be read.
    """
    pictures = {draw.__name__: draw for draw in FIGURES}
    if picture not in pictures:
        raise UnknownNameError("picture", picture, list(pictures))
    return pictures[picture](run)


def _latency(run: RunFolder, name: str) -> Floats:
    values = run.requests[f"{name}_s"][run.requests["status"] == "completed"]
    return np.asarray(values[~np.isnan(values)])


def _loads(run: RunFolder, instance: int, rows: Column) -> tuple[Column, ...]:
    steps = run.steps
    tokens = steps["prefill_tokens"][rows] + steps["decode_tokens"][rows]
    usage = steps["kv_used_blocks"][rows] / max(run.pool_of(instance)["kv_blocks"], 1)
    return steps["running"][rows], steps["waiting"][rows], tokens, usage
