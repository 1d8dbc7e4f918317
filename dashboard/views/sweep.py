"""*Sweep*: the results of many runs along axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.folders import find_sweeps, label_of, roots
from dashboard.plots import page, pick_point, plain_text, show_figure, show_table
from dashboard.run_choice import describe_settings, link_to, tell_unknown
from dashboard.run_view import show_run
from dashboard.sweep_figures import draw_heat, draw_tradeoff
from dashboard.sweep_table import (
    axes_of,
    bases_of,
    figures_of,
    point_folder,
    read_sweep,
    same_settings,
    target_of,
)
from simserve import InputError, is_sweeping

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

# The point whose run is shown, what the address named then, the last click, and what the picture was of
# when that point was marked in it: a picture that changes with each click would lose its zoom.
_SHOWN, _NAMED, _CLICKED, _MARKED = "shown-point", "named-point", "clicked-point", "marked-point"
_LOOK_EVERY_S = 2.0
_MOST_REASONS = 3


@page
def show() -> None:
    """Show the page."""
    st.title("Sweep")
    found = find_sweeps()
    if not found:
        st.info(
            f"There is no sweep below {', '.join(map(str, roots()))} yet. Write which keys to vary into a "
            "file and run `simserve sweep sweep.yaml --out sweep`.",
            icon=":material/lightbulb:",
        )
        return
    tell_unknown("sweep", found)
    name = st.selectbox("Sweep", list(found), key="sweep", bind="query-params")
    if name is None:
        return
    folder = found[name]
    table = read_sweep(folder)
    done = table[table["status"] == "done"]
    _tell_progress(table, folder)
    axes, figures = axes_of(table), figures_of(table)
    if len(done) and axes:
        limits = _show_tradeoff(done, axes, figures, folder)
        if len(axes) > 1:
            _show_heat(done, axes, figures, folder, limits)
    st.subheader("Points")
    _show_points(table, folder, axes)


def _tell_progress(table: pd.DataFrame, folder: Path) -> None:
    """Tell how far the sweep is, which points failed, and that some are missing."""
    missing, total = int((table["status"] == "missing").sum()), len(table)
    ended = f"{total - missing:,} of {total:,} points have ended"
    if is_sweeping(folder):
        share = (total - missing) / max(total, 1)
        st.progress(share, f"{ended}. The sweep is at work; this page follows it.")
        _follow(folder, _stamp(folder))
    elif missing:
        st.warning(f"{ended}: run the sweep again, it goes on where it stopped.", icon=":material/warning:")
    failed = table[table["status"] == "failed"]
    if len(failed):
        reasons = failed["reason"].value_counts()
        told = "; ".join(map(plain_text, reasons.index[:_MOST_REASONS]))
        more = f"; and {len(reasons) - _MOST_REASONS} other reasons" if len(reasons) > _MOST_REASONS else ""
        points = "1 point" if len(failed) == 1 else f"{len(failed):,} points"
        st.warning(f"{points} failed. {told}{more}", icon=":material/warning:")


@st.fragment(run_every=_LOOK_EVERY_S)
def _follow(folder: Path, stamp: int) -> None:
    """Show the page anew when there are new results, or the sweep has ended."""
    if _stamp(folder) != stamp or not is_sweeping(folder):
        st.rerun()


def _stamp(folder: Path) -> int:
    return (folder / "results.parquet").stat().st_mtime_ns


def _show_tradeoff(
    done: pd.DataFrame, axes: list[str], figures: list[str], folder: Path
) -> dict[str, float | None]:
    """Show throughput against latency, and the run of a point that was clicked; return the target."""
    columns = st.columns([2, 2, 2, 2, 1])
    latencies = [name for name in figures if name.endswith("_ms")]
    rates = [name for name in figures if name.endswith(("throughput", "goodput"))]
    bases = bases_of(done)
    latency = _pick(columns[0], "Latency", latencies, "p90_ttft_ms", "latency")
    rate = _pick(columns[1], "Throughput", rates, "request_throughput", "throughput")
    base = _pick(columns[2], "Related to", list(bases), "in all", "per")
    line = _pick(columns[3], "A curve for each", axes, axes[0], "curve")
    own = target_of(folder, done, latency)
    target = columns[4].number_input(
        "Target, ms", min_value=0.0, value=None, key="target", bind="query-params",
        placeholder="none" if own is None else f"{own:g}", help="Empty: that of the scenario.",
    )  # fmt: skip
    target = own if target is None else target
    shown = _named_point(done)
    drawn = [str(folder), _stamp(folder), latency, rate, base, line, target]
    if st.session_state.get(_MARKED, [None])[0] != drawn:
        st.session_state[_MARKED] = [drawn, shown]
    marked = st.session_state[_MARKED][1]
    picture = draw_tradeoff(done, latency, rate, line, target, (base, bases[base]), marked)
    clicked = pick_point(picture, "tradeoff")
    if clicked not in (None, st.session_state.get(_CLICKED)) and clicked in set(done["identity"]):
        shown = clicked
    st.session_state[_CLICKED] = clicked
    _keep_point(shown)
    if shown is not None:
        try:
            _show_point(done, shown, axes, folder)
        except InputError as error:
            st.warning(
                f"The run of this point cannot be read: {plain_text(error)}", icon=":material/warning:"
            )
    return {latency: target}


def _named_point(done: pd.DataFrame) -> str | None:
    """Return the point that the address names, or that was shown before; None without any."""
    state, wanted = st.session_state, st.query_params.get("shown")
    if wanted is not None and wanted != state.get(_NAMED):
        state[_SHOWN] = wanted
        if wanted not in set(done["identity"]):
            st.warning(f"This sweep has no point {plain_text(wanted)} with a result.")
    found: str | None = state.get(_SHOWN)
    return found if found in set(done["identity"]) else None


def _keep_point(identity: str | None) -> None:
    """Put the point that is shown into the address; None: none is."""
    st.session_state[_SHOWN] = st.session_state[_NAMED] = identity
    if identity is not None:
        st.query_params["shown"] = identity
    elif "shown" in st.query_params:
        del st.query_params["shown"]


def _show_point(done: pd.DataFrame, identity: str, axes: list[str], folder: Path) -> None:
    """Show the run of a point, with a choice of its seeds."""
    row = done[done["identity"] == identity].iloc[0]
    same = same_settings(done, identity)
    way = point_folder(folder, identity)
    with st.container(border=True):
        text, close = st.columns([8, 1])
        text.markdown(
            f"**Point {row['point']}**: {plain_text(describe_settings({name: row[name] for name in axes}))}, "
            f"seed {row['seed']}. [Open it on a page of its own]({link_to('result', run=label_of(way))})"
        )
        close.button("Close", on_click=_keep_point, args=(None,), icon=":material/close:", type="tertiary")
        if len(same) > 1:
            seeds = dict(zip(same["identity"], same["seed"].tolist(), strict=True))
            chosen = st.segmented_control(
                "Seed", list(seeds), default=identity, format_func=lambda each: str(seeds[each]),
                key=f"seed-of-{row['point']}",
            )  # fmt: skip
            if chosen not in (None, identity):
                _keep_point(chosen)
                st.rerun()
        show_run(way, "point")


def _show_heat(
    done: pd.DataFrame, axes: list[str], figures: list[str], folder: Path, limits: dict[str, float | None]
) -> None:
    """Show a figure over two axes; `limits` go before the scenario's own targets."""
    columns = st.columns(3)
    across = _pick(columns[0], "Across", axes, axes[-1], "across")
    down = _pick(columns[1], "Down", axes, axes[0], "down")
    figure = _pick(columns[2], "Figure", figures, "p90_ttft_ms", "heat")
    if across == down:
        st.info("Choose two different axes for the map.", icon=":material/lightbulb:")
        return
    target = limits[figure] if figure in limits else target_of(folder, done, figure)
    show_figure(draw_heat(done, across, down, figure, target), "heat")


def _pick(place: Any, label: str, options: list[str], value: str, key: str) -> str:
    index = options.index(value) if value in options else 0
    chosen: str = place.selectbox(label, options, index=index, key=key, bind="query-params")
    return chosen


def _show_points(table: pd.DataFrame, folder: Path, axes: list[str]) -> None:
    shown = table.drop(columns=["identity"]).copy()
    empty = [name for name in shown.columns if (shown[name].isna() | (shown[name] == "")).all()]
    shown = shown.drop(columns=empty)
    prefix = f"{label_of(folder)}/points/"
    links = [
        f"/result?run={prefix}{identity}" if status == "done" else None
        for identity, status in zip(table["identity"], table["status"], strict=True)
    ]
    shown.insert(0, "run", links)
    order = ["run", "point", "seed", *axes, "status", "request_throughput", "p90_ttft_ms", "p90_tpot_ms"]
    rest = [name for name in shown.columns if name not in order]
    shown = shown[[name for name in (*order, *rest) if name in shown.columns]]
    link = st.column_config.LinkColumn("run", display_text="open")
    show_table(shown, "points", column_config={"run": link})
