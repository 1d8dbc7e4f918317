"""What instances had to do over time: their batches, queues, memory, prefix hits and preemptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.errors import UnknownNameError
from simserve.report.figure_style import (
    BAD,
    FAIR,
    MOST_POINTS,
    MUTED,
    SERIES_COLORS,
    Window,
    inside,
    stack_panels,
)
from simserve.report.run_folder import Column, Floats, RunFolder
from simserve.report.thinning import thin_series

if TYPE_CHECKING:
    import plotly.graph_objects as go

QUANTITIES = {
    "running": "running",
    "waiting": "waiting",
    "tokens": "tokens a step",
    "kv_usage": "KV blocks in use, share",
}
# More instances than this are drawn as the least, the median and the most of them.
_MOST_INSTANCES = 12
# Intervals of time in which hits and preemptions are counted, and in which many instances are compared.
_INTERVALS = 120
_MANY = 600


def load_series(run: RunFolder, instance: int, quantity: str) -> tuple[Floats, Column]:
    """Return a quantity of an instance over time: each value holds until the next; 0 where nothing ran.

    Args:
        run: The folder of a run.
        instance: Its number.
        quantity: "running" or "waiting" requests, "tokens" of a step, or "kv_usage", the
            share of KV blocks that requests own.

    Returns:
        Moments in seconds, and the value from each of them on.

    Raises:
        UnknownNameError: If there is no such quantity.
    """
    if quantity not in QUANTITIES:
        raise UnknownNameError("quantity", quantity, list(QUANTITIES))
    rows = run.step_rows.get(instance)
    if rows is None:
        return np.empty(0), np.empty(0)
    steps = run.steps
    if quantity == "tokens":
        values: Column = steps["prefill_tokens"][rows] + steps["decode_tokens"][rows]
    elif quantity == "kv_usage":
        values = steps["kv_used_blocks"][rows] / max(run.pool_of(instance)["kv_blocks"], 1)
    else:
        values = steps[quantity][rows]
    start_s, end_s = steps["start_s"][rows], steps["end_s"][rows]
    # Nothing ran from the end of one row to the start of the next.
    pauses = np.flatnonzero(np.append(start_s[1:] > end_s[:-1] + 1e-9, True)) + 1
    return np.insert(start_s, pauses, end_s[pauses - 1]), np.insert(values, pauses, 0)


def preemptions_of(run: RunFolder) -> tuple[Floats, Column]:
    """Return the moments at which requests were preempted, in seconds, and on which instances."""
    spans = run.spans
    lost = np.flatnonzero(spans["kind"] == "preempted")
    instances = run.requests["instance"][run.span_rows[lost]] if len(lost) else np.empty(0, np.int64)
    moments = [
        float(run.step_starts[int(instance)][step])
        for instance, step in zip(instances, spans["first_step"][lost].tolist(), strict=True)
    ]
    return np.array(moments), instances


def load_over_time(run: RunFolder, window: Window = None) -> go.Figure:
    """Draw running and waiting requests, tokens a step, KV blocks in use, prefix hits and preemptions.

    By instance, or of many instances the least, the median and the most; hits and preemptions are left out
    where there are none.
    """
    counted = {
        title: (values, weights)
        for title, values, weights in _counted(run)
        if values is not None and len(values[0]) and values[2].any()
    }
    figure = stack_panels([*QUANTITIES.values(), *counted], window, 170 * (4 + len(counted)) + 60)
    many = len(run.instances) > _MOST_INSTANCES
    for row, quantity in enumerate(QUANTITIES, start=1):
        for number, (name, x, y) in enumerate(_curves(run, quantity, window, many)):
            figure.add_scatter(
                x=x, y=y, mode="lines", line=_line(number, many), name=name, legendgroup=name,
                showlegend=row == 1, row=row, col=1,
            )  # fmt: skip
    for row, (values, per) in enumerate(counted.values(), start=1 + len(QUANTITIES)):
        _add_counted(figure, run, values, per, window, many, row)
    missing = [
        name for name, key in (("prefix hits", "prompt tokens from"), ("preemptions", "preemptions"))
        if not any(title.startswith(key) for title in counted)
    ]  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    for row, title in enumerate((*QUANTITIES.values(), *counted), start=1):
        if title.endswith("share"):
            figure.update_yaxes(tickformat=".0%" if title not in QUANTITIES.values() else ".1%", row=row)
    note = f"; no {' and no '.join(missing)}" if missing else ""
    of = f" of {len(run.instances)} instances" if many else ""
    return figure.update_layout(title=f"Load over time{of}{note}", legend={"traceorder": "normal"})


def _curves(run: RunFolder, quantity: str, window: Window, many: bool) -> list[tuple[str, Floats, Column]]:
    if many:
        edges, table = _compared(run, quantity, window)
        ranks = (("most", 1.0), ("median", 0.5), ("least", 0.0))
        return [(name, edges, np.quantile(table, share, axis=0)) for name, share in ranks]
    most = MOST_POINTS // (8 * max(len(run.instances), 1))
    curves = []
    for instance in run.instances:
        x, y = load_series(run, instance, quantity)
        chosen = inside(x, window)
        # What held at the window's start began before it.
        begun = int(np.searchsorted(x, window[0])) - 1 if window else -1
        if begun >= 0:
            chosen[begun] = True
        curves.append((f"instance {instance}", *thin_series(x[chosen], y[chosen], most)))
    return curves


def _compared(run: RunFolder, quantity: str, window: Window) -> tuple[Floats, Floats]:
    """Return `[bins]` moments, and `[instances, bins]` each one's largest value until the next moment."""
    edges = _edges(run, window, _MANY)
    table = np.zeros((len(run.instances), _MANY))
    for row, instance in enumerate(run.instances):
        x, y = load_series(run, instance, quantity)
        # The value that holds at each edge; before the first step nothing does.
        values = np.concatenate(([0.0], y))
        places = np.searchsorted(x, edges, side="right")
        table[row] = np.maximum(np.maximum.reduceat(values, places)[:-1], values[places[1:]])
    return edges[:-1], table


_Events = tuple[Floats, Column, Floats]


def _counted(run: RunFolder) -> list[tuple[str, _Events | None, Floats | None]]:
    """Return prefix hits and preemptions: (moments, instances, amounts), and what the amounts are part of."""
    requests = run.requests
    begun = np.flatnonzero(~np.isnan(requests["first_scheduled_s"]))
    hits = (
        requests["first_scheduled_s"][begun], requests["instance"][begun],
        requests["cached_tokens"][begun].astype(np.float64),
    )  # fmt: skip
    prompts = requests["prompt_tokens"][begun].astype(np.float64)
    moments, instances = preemptions_of(run)
    return [
        ("prompt tokens from the prefix cache, share", hits, prompts),
        ("preemptions in each interval", (moments, instances, np.ones(len(moments))), None),
    ]


def _add_counted(
    figure: go.Figure,
    run: RunFolder,
    events: _Events,
    of: Floats | None,
    window: Window,
    many: bool,
    row: int,
) -> None:
    edges = _edges(run, window, _INTERVALS)
    times_s, instances, amounts = events
    groups: list[tuple[str, Any]] = [("all", np.ones(len(times_s), bool))]
    if not many:
        groups = [(f"instance {each}", instances == each) for each in run.instances]
    for number, (name, mine) in enumerate(groups):
        chosen = mine & inside(times_s, window)
        sums = np.histogram(times_s[chosen], edges, weights=amounts[chosen])[0]
        if of is not None:
            whole = np.histogram(times_s[chosen], edges, weights=of[chosen])[0]
            sums = np.where(whole > 0, sums / np.maximum(whole, 1e-9), np.nan)
        line = {"shape": "hv", "width": 1, "color": MUTED if many else SERIES_COLORS[number]}
        figure.add_scatter(
            x=edges[:-1], y=sums, mode="lines", line=line, name=name, legendgroup=name,
            showlegend=many and row == 1 + len(QUANTITIES), row=row, col=1,
        )  # fmt: skip


def _edges(run: RunFolder, window: Window, bins: int) -> Floats:
    begin, end = window or (0.0, max(float(run.steps["end_s"].max(initial=0.0)), 1e-9))
    return np.linspace(begin, end, bins + 1)


def _line(number: int, many: bool) -> dict[str, Any]:
    color = (BAD, FAIR, SERIES_COLORS[2])[number] if many else SERIES_COLORS[number]
    return {"shape": "hv", "width": 1, "color": color}
