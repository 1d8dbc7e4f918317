"""*Run*: choose a scenario, turn its knobs, run it, look at it."""

from __future__ import annotations

import time

import streamlit as st

from dashboard.folders import find_scenarios, label_of, roots
from dashboard.jobs import Job, Order, start_job
from dashboard.knobs import ask_overrides
from dashboard.plots import page
from dashboard.run_view import show_run
from simserve import catalog_names, load_scenario

_POLL_S = 0.5
_SOURCES = ("shipped", "in my folders", "upload")


@page
def show() -> None:
    """Show the page."""
    st.title("Run")
    source = _ask_source()
    if source is None:
        return
    text, key = source
    scenario = load_scenario(text, allow_imports=False, allow_files=roots())
    st.caption(f"**{scenario.name or key}**")
    overrides = ask_overrides(scenario, key)
    lines = st.text_area(
        "More keys, a line each", key="set", bind="query-params", height=80,
        placeholder="pools.0.engine.enable_prefix_caching=false", help="As `simserve run --set` takes them.",
    )  # fmt: skip
    overrides += [line.strip() for line in (lines or "").splitlines() if line.strip()]
    job: Job | None = st.session_state.get("job")
    _buttons(Order(text, tuple(overrides)), job)
    _follow()


def _ask_source() -> tuple[str, str] | None:
    """Return the scenario's name, path or text, and how to call it; None while there is none."""
    left, right = st.columns([1, 2])
    kind = left.segmented_control("Scenario", _SOURCES, default="shipped", key="from", bind="query-params")
    if kind == "upload":
        file = right.file_uploader("A scenario (YAML)", type=["yaml", "yml"])
        if file is None:
            st.info("Its policies must be shipped ones, and its files in the folders of this dashboard.")
            return None
        return file.getvalue().decode("utf-8", errors="replace") + "\n", file.name
    if kind == "in my folders":
        found = find_scenarios()
        if not found:
            st.info(f"There is no YAML file below {', '.join(map(str, roots()))}; take a shipped scenario.")
            return None
        chosen = right.selectbox("File", list(found), key="file", bind="query-params")
        return None if chosen is None else (str(found[chosen]), chosen)
    names = catalog_names("scenarios")
    start = names.index("quickstart")
    name = right.selectbox("Name", names, index=start, key="scenario", bind="query-params")
    return None if name is None else (name, name)


def _buttons(order: Order, job: Job | None) -> None:
    start, again, _ = st.columns([1, 1, 4])
    busy = job is not None and job.running
    wanted = start.button("Run", type="primary", icon=":material/play_arrow:", disabled=busy, width="stretch")
    fresh = again.button(
        "Run anew", help="Even if the result is there already.", disabled=busy, width="stretch"
    )
    if wanted or fresh:
        st.session_state["job"] = start_job(order, fresh=fresh)
        st.rerun()


def _follow() -> None:
    """Show the run under way, or what came of it."""
    job: Job | None = st.session_state.get("job")
    if job is None:
        st.info("Press *Run*: the quickstart takes about a second.", icon=":material/lightbulb:")
    elif job.running:
        _watch()
    elif job.error:
        st.error(job.error, icon=":material/error:")
        st.caption("Nothing was written. Change what the message names, and run again.")
    else:
        label = label_of(job.folder)
        told = "This very run was there already." if job.process is None else "Done."
        st.success(f"{told} [Open it on a page of its own](result?run={label}), or compare it.")
        show_run(job.folder, "run")


@st.fragment(run_every=_POLL_S)
def _watch() -> None:
    job: Job = st.session_state["job"]
    if not job.running:
        st.rerun()
    now_s, ended, total = job.progress
    share = min(ended / total, 1.0) if total else 0.0
    passed_s = time.monotonic() - job.started_s
    left = f", about {passed_s * (1 - share) / share:,.0f} s left" if share else ""
    st.progress(share, f"simulated {now_s:,.1f} s, {ended:,} of {total:,} requests{left}")
    if st.button("Stop", icon=":material/stop:", help="What is complete by then is kept, as a partial run."):
        job.stop()
