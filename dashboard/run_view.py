"""A run as it is shown: figures against their targets, the bottleneck, pictures, downloads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.folders import find_runs, label_of, roots
from dashboard.plots import (
    format_figure,
    offer_csv,
    percent,
    plain_text,
    show_figure,
    show_metrics,
    show_small_table,
)
from dashboard.run_choice import choose_run, title_points
from dashboard.run_figures import (
    describe_run,
    explain_missing,
    format_time,
    judge,
    latency_frame,
    observed_figures,
    pool_frame,
    tell_failures,
)
from simserve import RunFolder, SimserveError, draw_run, write_run_page

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PICTURES = {
    "Latencies": "latency_distributions",
    "Latencies over time": "latencies_over_time",
    "Load over time": "load_over_time",
    "Requests": "request_lives",
    "Where time goes": "step_time",
    "Steps": "step_durations",
}
# Pictures that can be of a part of the run.
_OVER_TIME = ("latencies_over_time", "load_over_time", "request_lives")


def open_run(folder: Path) -> RunFolder:
    """Return a run; it is read once for as long as it stays the same.

    Raises:
        InputError: If it is outside of the dashboard's folders, or holds no run.
    """
    label_of(folder)
    summary = folder / "summary.json"
    return _open(str(folder), summary.stat().st_mtime_ns if summary.exists() else 0)


def choose_stepped_run(page: str, nothing: str) -> RunFolder | None:
    """Ask for a run, as `choose_run` does, and return it; None if there is none, or no step ran in it.

    Args:
        page: The page's name.
        nothing: What to say of a run without a step.

    Raises:
        InputError: If it holds no run.
    """
    folder = choose_run(page)
    if folder is None:
        return None
    run = open_run(folder)
    if not run.instances:
        st.warning(f"No step ran in this run, so {nothing}", icon=":material/block:")
        return None
    return run


def draw_first_picture() -> None:
    """Draw what *Result* begins with, the newest run's first picture, before it is asked for."""
    folder = next(iter(find_runs().values()), None)
    if folder is not None:
        _draw(str(folder), stamp_of(folder), next(iter(PICTURES.values())), None)


def show_run(folder: Path, key: str) -> None:
    """Show the run in a folder.

    Args:
        folder: Of the run.
        key: Tells this view from others on other pages.

    Raises:
        InputError: If it holds no run.
    """
    run = open_run(folder)
    summary = observed_figures(run.summary)
    st.subheader(plain_text(summary.get("name") or "Run"))
    label = label_of(folder)
    known = title_points({label: folder}).get(label, label)
    st.caption(f"{plain_text(known)} · {plain_text(describe_run(run))}")
    _show_state(summary)
    _show_figures(summary, run.scenario.get("slo") or {})
    missing = explain_missing(run.summary)
    if missing:
        st.caption(missing)
    st.info(f"**Bottleneck.** {plain_text(summary['bottleneck'])}", icon=":material/search_insights:")
    for warning in summary["warnings"]:
        st.warning(plain_text(warning), icon=":material/warning:")
    if summary["completed"]:
        _show_picture(folder, key)
    _show_more(run, key)


@st.fragment
def _show_picture(folder: Path, key: str) -> None:
    """Show the picture that is chosen; choosing another runs this part of the page alone."""
    name = st.segmented_control("Picture", list(PICTURES), default="Latencies", key=f"{key}-picture",
                                bind="query-params", label_visibility="collapsed")  # fmt: skip
    picture = PICTURES[name or "Latencies"]
    window = _ask_window(open_run(folder), key) if picture in _OVER_TIME else None
    try:
        with st.spinner("Drawing"):
            figure = _draw(str(folder), stamp_of(folder), picture, window)
    except SimserveError as error:
        st.warning(f"This picture cannot be drawn: {plain_text(error)}", icon=":material/warning:")
    else:
        show_figure(figure, f"{key}-{picture}")
        if picture == "request_lives":
            st.caption("The mouse zooms into these lives; *Part of the run* draws those of the part alone.")


def _ask_window(run: RunFolder, key: str) -> tuple[float, float] | None:
    """Return from when to when pictures show the run, in seconds; None: all of it."""
    first, last = st.slider(
        "Part of the run, %", 0.0, 100.0, (0.0, 100.0), 0.1, key=f"{key}-part", bind="query-params",
        help="What lies in it is drawn anew, in more detail: lives of other requests, every spike.",
    )  # fmt: skip
    if (first, last) == (0.0, 100.0) or first == last:
        return None
    end_s = float(run.steps["end_s"].max())
    return first / 100 * end_s, last / 100 * end_s


@st.cache_resource(max_entries=12, show_spinner=False)
def _open(folder: str, stamp: int) -> RunFolder:
    return RunFolder.read(folder, allow_files=roots())


@st.cache_resource(max_entries=48, show_spinner=False)
def _draw(folder: str, stamp: int, picture: str, window_s: tuple[float, float] | None) -> go.Figure:
    return draw_run(_open(folder, stamp), picture, window_s)


def stamp_of(folder: Path) -> int:
    """Return what changes when another run is written into a folder."""
    return (folder / "summary.json").stat().st_mtime_ns


def _show_state(summary: Mapping[str, Any]) -> None:
    if summary["partial"]:
        st.warning("This run was stopped before its end: the figures are of what had ended by then.")
    if not summary["completed"]:
        st.error(
            "No request completed, so there is nothing to draw. See the reasons below; then give the "
            "instances more memory or a larger `max_model_len`, or choose a trace with shorter requests."
        )
    for text in tell_failures(summary.get("failures", {})):
        st.warning(plain_text(text), icon=":material/cancel:")


def _show_figures(summary: Mapping[str, Any], slo: Mapping[str, Any]) -> None:
    figures: list[tuple[str, str, str, str]] = []
    for name in ("ttft", "tpot", "e2el"):
        value = summary.get(f"p90_{name}_ms")
        shown = "–" if value is None else format_time(value)
        figures.append((f"{name.upper()} p90", shown, *judge(summary, name, slo.get(f"{name}_s"))))
    attained = summary["slo_attainment"]
    if attained is None:
        figures.append(("Requests within SLO", "–", "no target", "gray"))
    else:
        color = "green" if attained >= 0.99 else "orange" if attained >= 0.9 else "red"
        figures.append(("Requests within SLO", percent(attained), "of all that ended", color))
    show_metrics(figures)
    failed = f"{summary['failed']:,} failed, {summary['unfinished']:,} unfinished"
    rate = f"{format_figure(summary['request_throughput'])} requests/s"
    show_metrics(
        [
            ("Completed", f"{summary['completed']:,}", failed, "red" if summary["failed"] else "gray"),
            ("Output tokens/s", format_figure(summary["output_throughput"]), rate, "gray"),
            ("KV cache, peak", percent(summary["kv_cache_peak_usage"]),
             f"{summary['preemptions']:,} preemptions", "orange" if summary["preemptions"] else "gray"),
            ("Prefix hits", percent(summary["prefix_cache_hit_rate"]), "of prompt tokens", "gray"),
        ]
    )  # fmt: skip


def _show_more(run: RunFolder, key: str) -> None:
    left, right = st.columns([1, 1.2], gap="medium")
    with left:
        st.caption("Latencies of completed requests, ms")
        show_small_table(latency_frame(observed_figures(run.summary)), f"{key}-latencies")
    with right:
        st.caption("What served them")
        show_small_table(pool_frame(run.summary), f"{key}-pools")
        calibration = run.summary.get("calibration") or {}
        error = calibration.get("error_percent")
        stated = "" if error is None else f", stated error {error:.3g} %"
        st.caption(f"Step times: {calibration.get('tier')}, {calibration.get('source')}{stated}.")
    more = st.expander("Scenario as it ran, and downloads", key=f"{key}-more", on_change="rerun")
    if more.open:
        with more:
            _show_scenario(run, key)


def _show_scenario(run: RunFolder, key: str) -> None:
    text = (run.path / "scenario.yaml").read_text(encoding="utf-8")
    st.download_button("Scenario", text, "scenario.yaml", key=f"{key}-yaml", on_click="ignore")
    st.download_button("Report (HTML)", lambda: _report(run), "report.html", "text/html",
                       key=f"{key}-report", on_click="ignore")  # fmt: skip
    st.caption("Requests, a row each")
    offer_csv(lambda: _requests(run), f"{key}-requests")
    st.code(text, language="yaml", height=400)


def _requests(run: RunFolder) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(dict(run.requests))


def _report(run: RunFolder) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        write_run_page(run, path)
        return path.read_text(encoding="utf-8")
