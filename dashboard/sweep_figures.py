"""Pictures of a sweep: throughput against latency, and one figure over two axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.plots import BAD, COLORS, FAIR, GOOD, format_figure, percent
from dashboard.run_choice import describe_settings
from dashboard.sweep_table import axes_of, merge_seeds, same_settings

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

# Values further apart than this are coloured by their logarithms.
_DECADES = 20.0
# From the least to the target, and from there to the most.
_WITHIN, _BEYOND = (GOOD, "#cfe8df"), ("#f0b8a9", BAD)
# So many curves at most have each a name and a dash; of more the colours alone are told.
_MOST_NAMED, _DASHES = 8, ("solid", "dash", "dot", "dashdot")
_CHOSEN = {"selected": {"marker": {"size": 17}}, "unselected": {"marker": {"opacity": 1}}}


def draw_tradeoff(
    table: pd.DataFrame,
    latency: str,
    throughput: str,
    line_of: str,
    target: float | None,
    per: tuple[str, str | None] = ("in all", None),
    chosen: str | None = None,
) -> go.Figure:
    """Draw throughput against latency, a curve for each value of one axis, with target and Pareto front.

    Points are means over their seeds, with bars from the least to the most.

    Args:
        table: The points that have results.
        latency, throughput: Columns.
        line_of: The axis whose values have colours. A curve runs along another, the one that is a rate if
            there is one, for each setting of all others.
        target: Of the latency, ms; points above it are drawn hollow.
        per: What throughput is related to: a label, and the column that it is divided by.
        chosen: Identity of a point that is drawn larger.
    """
    import plotly.graph_objects as go

    label, column = per
    known = table if column is None else table[table[column].notna()]
    rate = known[throughput].to_numpy(float)
    known = known.assign(_rate=rate if column is None else rate / known[column].to_numpy(float))
    axes = axes_of(table)
    merged = merge_seeds(known, ["_rate", latency])
    # A point of the picture has the identity of its first seed.
    marked = None if chosen is None else next(iter(same_settings(known, chosen)["identity"]), None)
    figure = go.Figure()
    along = _along(merged, [name for name in axes if name != line_of])
    fixed = [name for name in axes if name not in (line_of, along)]
    few = len(merged[[line_of, *fixed]].drop_duplicates()) <= _MOST_NAMED
    for number, (value, part) in enumerate(merged.groupby(line_of, sort=False)):
        color = COLORS[number % len(COLORS)]
        groups = part.groupby(fixed, sort=False, dropna=False) if fixed else [((), part)]
        for place, (others, rows) in enumerate(groups):
            told = describe_settings(dict(zip(fixed, others, strict=True))) if few else ""
            name = f"{value}, {told}" if told else f"{value}"
            rows = rows.sort_values(along or "_rate")
            late = rows[latency].to_numpy(float) > (np.inf if target is None else target)
            figure.add_scatter(
                x=rows["_rate"], y=rows[latency], mode="lines+markers", name=name,
                line={"color": color, "dash": _DASHES[place % len(_DASHES)] if few else "solid"},
                marker={"size": 9, "symbol": np.where(late, "circle-open", "circle").tolist()},
                error_x=_reach(rows, "_rate"), error_y=_reach(rows, latency),
                legendgroup=f"{value}", showlegend=few or not place, customdata=rows["identity"],
                text=_settings(rows, axes), hovertemplate="%{text}<br>%{x:.4~g}, %{y:.4~g}<extra></extra>",
                selectedpoints=_places_of(rows, marked), **_CHOSEN,
            )  # fmt: skip
    _add_front(figure, merged, latency)
    if target is not None:
        figure.add_hline(y=target, line_dash="dot", line_color=BAD)
        # On an axis of logarithms lines stand at the value, words at its logarithm.
        figure.add_annotation(
            x=1, xref="paper", y=float(np.log10(max(target, 1e-9))), text=f"target {target:g} ms",
            showarrow=False, xanchor="right", yanchor="bottom", font={"color": BAD},
        )  # fmt: skip
    title = throughput if column is None else f"{throughput} {label}"
    figure.update_xaxes(title_text=title, rangemode="tozero")
    figure.update_yaxes(title_text=latency, type="log", dtick="D2", exponentformat="none")
    names = [name.rpartition(".")[2] for name in (line_of, *(fixed if few else []))]
    legend = {"title": {"text": ", ".join(names)}}
    heading = "Throughput against latency; click a point to see its run"
    seeds = int(merged["seeds"].max()) if len(merged) else 0
    note = f"<br><sup>means of {seeds} seeds, bars from the least to the most</sup>" if seeds > 1 else ""
    return figure.update_layout(title=heading + note, height=480, legend=legend, clickmode="event+select")


def draw_heat(
    table: pd.DataFrame, across: str, down: str, figure_name: str, target: float | None = None
) -> go.Figure:
    """Draw one figure over two axes, the mean over everything else (seeds, further axes).

    With a target the colour changes at it: what is beyond is red.
    """
    import plotly.graph_objects as go

    means = table.pivot_table(index=down, columns=across, values=figure_name, aggfunc="mean", sort=False)
    values = means.to_numpy(float)
    share = figure_name.endswith(("hit_rate", "usage", "attainment"))
    heat = go.Heatmap(
        x=[str(each) for each in means.columns], y=[str(each) for each in means.index],
        text=[[_write(value, share) for value in row] for row in values], texttemplate="%{text}",
        textfont={"size": 14}, hovertemplate="%{y}<br>%{x}<br>%{text}<extra></extra>",
        **_shade(values, target),
    )  # fmt: skip
    figure = go.Figure(heat).update_xaxes(title_text=across, type="category")
    note = "" if target is None else f"; beyond the target of {target:g} ms in red"
    return figure.update_yaxes(title_text=down, type="category").update_layout(
        title=f"{figure_name}, the mean over everything else{note}", height=min(180 + 60 * len(means), 640)
    )


def best_points(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return the Pareto front: the rows for which no other has more gain at no more cost.

    Args:
        cost, gain: `[n]`; rows with a NaN are never best.

    Returns:
        Row numbers, in order of cost.
    """
    best, front = -np.inf, []
    for row in np.lexsort((-gain, cost)).tolist():
        if np.isfinite(cost[row]) and gain[row] > best:
            best = gain[row]
            front.append(row)
    return np.array(front, dtype=np.int64)


def _add_front(figure: go.Figure, merged: pd.DataFrame, latency: str) -> None:
    front = merged.iloc[best_points(merged[latency].to_numpy(float), merged["_rate"].to_numpy(float))]
    figure.add_scatter(
        x=front["_rate"], y=front[latency], mode="lines+markers", name="Pareto front",
        line={"color": FAIR, "dash": "dot", "width": 1, "shape": "hv"},
        marker={"size": 16, "symbol": "circle-open"}, hoverinfo="skip", customdata=front["identity"],
        unselected=_CHOSEN["unselected"],
    )  # fmt: skip


def _places_of(rows: pd.DataFrame, identity: str | None) -> list[int] | None:
    return np.flatnonzero(rows["identity"] == identity).tolist() or None


def _reach(rows: pd.DataFrame, name: str) -> dict[str, Any]:
    """Return the bars from the least seed to the most; none where all are equal."""
    above, below = rows[f"{name}:most"] - rows[name], rows[name] - rows[f"{name}:least"]
    wide = bool(((above + below) > 1e-9 * rows[name].abs()).any())
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1,
            "width": 3, "visible": wide}  # fmt: skip


def _along(table: pd.DataFrame, axes: list[str]) -> str | None:
    """Return the axis that curves run along: a rate, else the one with the most numbers; None without any."""
    numbers = table[axes].select_dtypes("number").columns
    rates = [name for name in numbers if "rate" in name]
    return next(iter(rates or sorted(numbers, key=lambda name: -table[name].nunique())), None)


def _settings(rows: pd.DataFrame, axes: list[str]) -> list[str]:
    short = [name.rpartition(".")[2] for name in axes]
    return [
        "<br>".join(f"{name}: {value}" for name, value in zip(short, values, strict=True))
        for values in rows[axes].itertuples(index=False)
    ]


def _write(value: float, share: bool) -> str:
    return "–" if np.isnan(value) else percent(value) if share else format_figure(value)


def _shade(values: np.ndarray, target: float | None) -> dict[str, Any]:
    """Return the colours of a map's cells: by logarithms where values are decades apart.

    There is no bar beside it: each cell says its number.
    """
    known = values[~np.isnan(values)]
    least, most = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    place = np.log10 if least > 0 and most > _DECADES * least and (target or least) > 0 else np.asarray
    shown: dict[str, Any] = {"z": place(values), "showscale": False}
    if target is None or most <= least:
        return shown | {"colorscale": "Cividis"}
    low, high, limit = (float(place(value)) for value in (least, most, target))
    # What equals the target is within it.
    share = (limit - low) / (high - low) + 1e-9
    within = [[0.0, _WITHIN[0]], [min(max(share, 0.0), 1.0), _WITHIN[1]]]
    beyond = [[min(max(share, 0.0), 1.0), _BEYOND[0]], [1.0, _BEYOND[1]]]
    scale = [*(within if share > 0 else []), *(beyond if share < 1 else [])]
    return shown | {"zmin": low, "zmax": high, "colorscale": scale}
