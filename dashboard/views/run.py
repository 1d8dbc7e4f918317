"""*Run*: choose a scenario, turn its knobs, run it, look at it."""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st

from dashboard.folders import find_runs, find_scenarios, label_of, roots, sweep_of
from dashboard.jobs import Job, Order, find_job, start_job
from dashboard.knobs import ask_overrides
from dashboard.plots import page, plain_text, show_error
from dashboard.run_choice import link_to, tell_unknown
from dashboard.run_view import open_run, show_run
from simserve import SimserveError, catalog_names, load_scenario

_POLL_S = 0.5
# Asks the page's next turn to close the form.
_CLOSE = "close-form"
_SOURCES = ("shipped", "in my folders", "upload")


@page
def show() -> None:
    """Show the page."""
    st.title("Run")
    job = _find_job()
    # The form gives way to what it has made; a click opens it again.
    if st.session_state.pop(_CLOSE, False) or "form" not in st.session_state:
        st.session_state["form"] = job is None
    order = _ask_order()
    if order is not None:
        _buttons(order, job)
    if job is not None:
        _follow(job)
    elif order is not None:
        st.info("Press *Run*: the quickstart takes about a second.", icon=":material/lightbulb:")


def _find_job() -> Job | None:
    """Return the run that this page started, or that the address names: a reloaded page goes on with it."""
    state, named = st.session_state, st.query_params.get("job")
    job: Job | None = state.get("job")
    if named is not None and (job is None or job.identity != named):
        job = find_job(named)
        if job is None:
            st.warning("The run that the address names is no longer there.", icon=":material/link_off:")
            del st.query_params["job"]
        else:
            state["job"] = job
    elif job is not None and named is None:
        st.query_params["job"] = job.identity
    return job


def _ask_order() -> Order | None:
    """Ask for a scenario and its knobs; None while there is no scenario."""
    source = _ask_source()
    if source is None:
        return None
    text, key = source
    try:
        scenario = load_scenario(text, allow_imports=False, allow_files=roots())
    except SimserveError as error:
        show_error(error, "Mend the file, or choose another scenario; there is nothing to run yet.")
        return None
    with st.expander(f"**{plain_text(scenario.name or key)}** and its knobs", key="form", on_change="rerun"):
        overrides = ask_overrides(scenario, key)
        lines = st.text_area(
            "More keys, a line each", key="set", bind="query-params", height=80,
            placeholder="pools.0.engine.enable_prefix_caching=false",
            help="As `simserve run --set` takes them.",
        )  # fmt: skip
    overrides += [line.strip() for line in (lines or "").splitlines() if line.strip()]
    return Order(text, tuple(overrides))


def _ask_source() -> tuple[str, str] | None:
    """Return the scenario's name, path or text, and how to call it; None while there is none."""
    # In a row where there is room for it.
    with st.container(horizontal=True):
        kind = st.segmented_control("Scenario", _SOURCES, default="shipped", key="from", bind="query-params")
        if kind == "upload":
            return _ask_upload()
        if kind == "in my folders":
            found = find_scenarios()
            if not found:
                st.info(
                    f"There is no scenario (a YAML file with a `workload`) below "
                    f"{', '.join(map(str, roots()))}; take a shipped one."
                )
                return None
            tell_unknown("file", found)
            chosen = st.selectbox("File", list(found), key="file", bind="query-params")
            return None if chosen is None else (str(found[chosen]), chosen)
        names = catalog_names("scenarios")
        tell_unknown("scenario", names)
        start = names.index("quickstart")
        name = st.selectbox("Name", names, index=start, key="scenario", bind="query-params")
        return None if name is None else (name, name)


def _ask_upload() -> tuple[str, str] | None:
    file = st.file_uploader("A scenario (YAML)", type=["yaml", "yml"])
    if file is None:
        st.info("Its policies must be shipped ones, and its files in the folders of this dashboard.")
        return None
    return file.getvalue().decode("utf-8", errors="replace") + "\n", file.name


def _buttons(order: Order, job: Job | None) -> None:
    start, again, _ = st.columns([1, 1, 4])
    busy = job is not None and job.running
    wanted = start.button("Run", type="primary", icon=":material/play_arrow:", disabled=busy, width="stretch")
    fresh = again.button(
        "Run anew", help="Even if the result is there already.", disabled=busy, width="stretch"
    )
    if wanted or fresh:
        started = start_job(order, fresh=fresh)
        if job is not None and not job.error and job.folder != started.folder:
            st.session_state["job-before"] = job
        st.session_state["job"], st.session_state[_CLOSE] = started, True
        st.query_params["job"] = started.identity
        st.rerun()


def _follow(job: Job) -> None:
    """Show a run under way, or what came of it."""
    if job.running:
        _watch()
    elif job.error:
        show_error(job.error, "Nothing was written. Change what the message names, and run again.")
    else:
        summary = open_run(job.folder).summary
        links = f"{_links(job.folder)}."
        if not summary["completed"] or summary["partial"]:
            st.markdown(links)
        else:
            told = "This very run was there already." if job.process is None else "Done."
            st.success(f"{told} {links}")
        show_run(job.folder, "run")


def _links(folder: Path) -> str:
    """Return where to look next at a run: by itself, and beside the one before it."""
    label = label_of(folder)
    own = f"[Open it on a page of its own]({link_to('result', run=label)})"
    before: Job | None = st.session_state.get("job-before")
    known = [name for name, path in find_runs().items() if path != folder and sweep_of(path) is None]
    if before is not None and before.folder != folder and label_of(before.folder) in known:
        other = label_of(before.folder)
    elif known:
        other = known[0]
    else:
        return f"{own}; change a knob and run again to compare"
    # The one before stands first: the changes that are shown are then those of this run.
    return f"{own}, or [compare it with the run before]({link_to('compare', runs=[other, label])})"


@st.fragment(run_every=_POLL_S)
def _watch() -> None:
    job: Job = st.session_state["job"]
    if not job.running:
        st.rerun()
    now_s, ended, total = job.progress
    share = min(ended / total, 1.0) if total else 0.0
    passed_s = time.monotonic() - job.started_s
    left = f", about {passed_s * (1 - share) / share:,.0f} s left" if share else ""
    told = f"simulated {now_s:,.1f} s, {ended:,} of {total:,} requests{left}"
    if job.stopping:
        told = "stopping: what is complete is being written"
    elif not total:
        told = "preparing the workload"
    st.progress(share, told)
    help_text = "What is complete by then is kept, as a partial run."
    if st.button("Stop", icon=":material/stop:", help=help_text, disabled=job.stopping):
        job.stop()
        st.rerun(scope="fragment")
