"""A sweep's results as a table: its axes, its figures, and which points nobody beats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dashboard.folders import label_of
from dashboard.plots import BAD, COLORS, FAIR
from simserve import InputError, RunFolder

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_BEFORE = ("point", "seed")


def read_sweep(folder: Path) -> pd.DataFrame:
    """Return a sweep's results, a row a point.

    Raises:
        InputError: If they cannot be read, or are no sweep's.
    """
    import pandas as pd
    import pyarrow as pa

    label_of(folder)
    path = folder / "results.parquet"
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot be read: {error}", file=str(path)) from error
    if not {*_BEFORE, "identity", "status"} <= set(table.columns):
        raise InputError("holds no sweep; expected what `simserve sweep` writes", file=str(folder))
    return _without_unobserved(table)


def _without_unobserved(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without TPOTs of points in which each request got all its tokens at once: no speed."""
    columns = [name for name in table.columns if name.split("_")[1:2] == ["tpot"]]
    if "mean_tpot_ms" not in columns or "mean_itl_ms" not in table.columns:
        return table
    at_once = (table["mean_tpot_ms"] == 0) & table["mean_itl_ms"].isna()
    return table.assign(**{name: table[name].mask(at_once) for name in columns})


def axes_of(table: pd.DataFrame) -> list[str]:
    """Return the keys that were swept: the columns before the identity."""
    columns = list(table.columns)
    return [name for name in columns[: columns.index("identity")] if name not in _BEFORE]


def figures_of(table: pd.DataFrame) -> list[str]:
    """Return the figures that have a number for some point."""
    columns = list(table.columns)
    figures = columns[columns.index("status") + 1 :]
    numbers = table[figures].select_dtypes("number")
    return [name for name in numbers.columns if numbers[name].notna().any()]


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


def draw_heat(table: pd.DataFrame, across: str, down: str, figure_name: str) -> go.Figure:
    """Draw one figure over two axes, the mean over everything else (seeds, further axes)."""
    import plotly.graph_objects as go

    means = table.pivot_table(index=down, columns=across, values=figure_name, aggfunc="mean", sort=False)
    heat = go.Heatmap(
        z=means.to_numpy(), x=[str(each) for each in means.columns], y=[str(each) for each in means.index],
        texttemplate="%{z:.4~g}", colorscale="Cividis", colorbar={"title": None},
    )  # fmt: skip
    figure = go.Figure(heat).update_xaxes(title_text=across, type="category")
    return figure.update_yaxes(title_text=down, type="category").update_layout(
        title=f"{figure_name}, the mean over everything else", height=420
    )


def bases_of(table: pd.DataFrame) -> dict[str, str | None]:
    """Return what throughput can be related to: a label, and the column it is divided by."""
    known = {"in all": None, "per GPU": "accelerators", "per USD/hour": "usd_per_hour"}
    return {
        label: column
        for label, column in known.items()
        if column is None or (column in table.columns and table[column].notna().any())
    }


def target_of(folder: Path, table: pd.DataFrame, latency: str) -> float | None:
    """Return the target that the first point's scenario has for a latency, in ms; None if it has none."""
    parts = latency.split("_")
    for identity in table["identity"].head(1):
        slo = RunFolder.read(folder / "points" / identity).scenario.get("slo") or {}
        target_s = slo.get(f"{parts[1]}_s") if len(parts) > 1 else None
        return None if target_s is None else float(target_s) * 1e3
    return None


def draw_tradeoff(
    table: pd.DataFrame,
    latency: str,
    throughput: str,
    line_of: str,
    target: float | None,
    per: tuple[str, str | None] = ("in all", None),
) -> go.Figure:
    """Draw throughput against latency, a curve for each value of one axis, with target and Pareto front.

    Args:
        table: The points that have results.
        latency, throughput: Columns.
        line_of: The axis whose values have colours. A curve runs along another, the one that is a rate if
            there is one, for each setting of all others.
        target: Of the latency, ms; points above it are drawn hollow.
        per: What throughput is related to: a label, and the column that it is divided by.
    """
    import plotly.graph_objects as go

    label, column = per
    known = table if column is None else table[table[column].notna()]
    rate = known[throughput].to_numpy(float)
    rate = rate if column is None else rate / known[column].to_numpy(float)
    known = known.assign(_rate=rate)
    figure = go.Figure()
    axes = axes_of(table)
    along = _along(known, [name for name in axes if name != line_of])
    fixed = [name for name in axes if name not in (line_of, along)]
    for number, (value, part) in enumerate(known.groupby(line_of, sort=False)):
        color = {"color": COLORS[number % len(COLORS)]}
        for place, (_, rows) in enumerate(part.groupby([*fixed, "seed"], sort=False, dropna=False)):
            rows = rows.sort_values(along) if along else rows.sort_values("_rate")
            late = rows[latency].to_numpy(float) > (np.inf if target is None else target)
            figure.add_scatter(
                x=rows["_rate"], y=rows[latency], mode="lines+markers", name=f"{value}", line=color,
                marker={"size": 9, "symbol": np.where(late, "circle-open", "circle").tolist()},
                legendgroup=f"{value}", showlegend=not place, customdata=rows["identity"],
                text=_settings(rows, axes), hovertemplate="%{text}<br>%{x:.4~g}, %{y:.4~g}<extra></extra>",
            )  # fmt: skip
    front = best_points(known[latency].to_numpy(float), rate)
    figure.add_scatter(
        x=rate[front], y=known[latency].to_numpy()[front], mode="lines+markers", name="Pareto front",
        line={"color": FAIR, "dash": "dot", "width": 1, "shape": "hv"},
        marker={"size": 16, "symbol": "circle-open"}, hoverinfo="skip",
        customdata=known["identity"].to_numpy()[front],
    )  # fmt: skip
    if target is not None:
        figure.add_hline(y=target, line_dash="dot", line_color=BAD)
        # On an axis of logarithms lines stand at the value, words at its logarithm.
        figure.add_annotation(
            x=1, xref="paper", y=float(np.log10(max(target, 1e-9))), text=f"target {target:g} ms",
            showarrow=False, xanchor="right", yanchor="bottom", font={"color": BAD},
        )  # fmt: skip
    title = throughput if column is None else f"{throughput} {label}"
    figure.update_xaxes(title_text=title).update_yaxes(title_text=latency, type="log", dtick="D2")
    legend = {"title": {"text": line_of.rpartition(".")[2]}}
    heading = "Throughput against latency; click a point to see its run"
    return figure.update_layout(title=heading, height=480, legend=legend, clickmode="event+select")


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
