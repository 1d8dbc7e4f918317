"""Which run a page shows: the one that the address names, or was shown last, or another of the folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from dashboard.folders import find_runs, label_of, roots, sweep_of
from dashboard.plots import plain_text
from dashboard.sweep_table import axes_of, read_sweep
from simserve import InputError

# The run that was shown last, on which page, and what the address named then.
_LAST, _PAGE, _NAMED = "last-run", "last-run-page", "named-run"


def choose_run(page: str) -> Path | None:
    """Ask for a run, and return its folder; without any, say how to make one.

    Args:
        page: The page's name: whoever turns to another page goes on with the same run.
    """
    runs = find_runs()
    if not runs:
        st.info(
            f"There is no run below {', '.join(map(str, roots()))} yet. Make one on the page *Run*, or with "
            "`simserve run quickstart --out out`.",
            icon=":material/lightbulb:",
        )
        return None
    wanted, state = st.query_params.get("run"), st.session_state
    # Streamlit forgets a choice whose page was left; the address has it, or the page before had it.
    if wanted is not None and (wanted != state.get(_NAMED) or "run" not in state):
        tell_unknown("run", runs)
        state["run"] = wanted
    elif wanted is None and state.get(_PAGE) != page:
        state["run"] = state.get(_LAST)
    if state.get("run") not in runs:
        state["run"] = state[_LAST] if state.get(_LAST) in runs else next(iter(runs))
    titles = title_points(runs)
    # Not bound to the address: that would hold the titles, which are for people.
    chosen: str = st.selectbox(
        "Run", list(runs), key="run", format_func=lambda label: titles.get(label, label),
        help="Newest first, the points of sweeps after the others.",
    )  # fmt: skip
    st.query_params["run"] = state[_NAMED] = state[_LAST] = chosen
    state[_PAGE] = page
    return runs[chosen]


def tell_unknown(key: str, known: Collection[str]) -> None:
    """Warn where the address names under a key what is not there, so that something else is shown."""
    for named in st.query_params.get_all(key):
        if named not in known:
            st.warning(
                f"There is no {key} '{plain_text(named)}' in this dashboard; here is another.",
                icon=":material/link_off:",
            )


def link_to(page: str, **named: str | list[str]) -> str:
    """Return the address of a page of the dashboard that shows what is named, as in the address bar."""
    return f"{page}?{urlencode(named, doseq=True)}"


def title_points(runs: Mapping[str, Path]) -> dict[str, str]:
    """Return what people call the points of sweeps, by label: the sweep, and what was set for the point."""
    titles = {}
    settings: dict[Path, dict[str, str]] = {}
    for label, folder in runs.items():
        sweep = sweep_of(folder)
        if sweep is None:
            continue
        if sweep not in settings:
            stamp = (sweep / "results.parquet").stat().st_mtime_ns
            settings[sweep] = _settings_of(str(sweep), stamp)
        if folder.name in settings[sweep]:
            titles[label] = f"{label_of(sweep)}: {settings[sweep][folder.name]}"
    return titles


def describe_settings(settings: Mapping[str, Any]) -> str:
    """Return the settings of a point in short: words stand for themselves, numbers behind their names."""
    return ", ".join(_describe(key.rpartition(".")[2], value) for key, value in settings.items())


def _describe(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return f"{name} {value}"
    number = f"{value:.6g}" if isinstance(value, int | float) else str(value)
    return f"{number}/s" if name == "rate_per_s" else f"{name} {number}"


@st.cache_data(max_entries=24, show_spinner=False)
def _settings_of(sweep: str, stamp: int) -> dict[str, str]:
    """Return the settings of a sweep's points in short, by identity; those that two share are left out."""
    try:
        table = read_sweep(Path(sweep))
    except InputError:
        return {}
    axes = axes_of(table)
    if table["seed"].nunique() > 1:
        axes = [*axes, "seed"]
    # `tolist` of each column: plain numbers, of which a whole one is an int.
    columns = [table[name].tolist() for name in axes]
    rows = [describe_settings(dict(zip(axes, values, strict=True))) for values in zip(*columns, strict=True)]
    known = Counter(rows)
    pairs = zip(table["identity"].tolist(), rows, strict=False)
    return {identity: text for identity, text in pairs if known[text] == 1}
