"""*Memory*: what fills the GPUs of a run, who held KV blocks when, and which prefixes saved work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.plots import page, percent, show_figure, show_metrics, show_small_table, show_table
from dashboard.run_view import choose_stepped_run, open_run, stamp_of
from simserve import RunFolder, draw_memory, memory_rows, prefix_rows

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_ALL = "all together"
_GIB = 2**30
# Prefixes shown at once; the CSV has all.
_MOST_ROWS = 12


@page
def show() -> None:
    """Show the page."""
    st.title("Memory")
    run = choose_stepped_run(
        "memory",
        "nothing was ever held in memory. The page *Result* says why; `simserve run SCENARIO --explain "
        "memory` says what would fit.",
    )
    if run is None:
        return
    _show_figures(run)
    _show_filling(run.path, run)
    _show_over_time(run.path)
    _show_tiers(run)
    _show_prefixes(run)


def tier_frame(tiers: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return a row a tier: what it was asked and has moved."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "tier": name,
                "hit rate": percent(counts["hit_rate"]),
                "chunks asked": counts["asked_chunks"],
                "chunks hit": counts["hit_chunks"],
            }
            | {f"{kind}, GiB": counts[f"{kind}_bytes"] / _GIB for kind in ("read", "written", "dropped")}
            for name, counts in tiers.items()
        ]
    )


def prefix_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a row a prefix, in the words of the page."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "stream": str(row["stream"]),
                "ends at token": row["prefix_tokens"],
                "its own tokens": row["tokens"],
                "requests": row["requests"],
                "tokens saved": row["saved_tokens"],
                "of all saved": percent(row["share"]),
                "instances that hold it": row["held_instances"],
                "held, GiB": None if row["held_bytes"] is None else row["held_bytes"] / _GIB,
            }
            for row in rows
        ]
    )


@st.cache_resource(max_entries=48, show_spinner="Drawing")
def _draw(folder: str, stamp: int, picture: str, instance: int | None) -> go.Figure:
    return draw_memory(open_run(Path(folder)), picture, instance)


def _figure(folder: Path, picture: str, instance: int | None = None) -> go.Figure:
    return _draw(str(folder), stamp_of(folder), picture, instance)


def _show_figures(run: RunFolder) -> None:
    summary = run.summary
    used, cached = run.steps["kv_used_blocks"], run.steps.get("kv_cached_blocks")
    blocks = max(pool["kv_blocks"] for pool in summary["pools"])
    figures = [
        ("KV cache, peak", percent(summary["kv_cache_peak_usage"]), f"of {blocks:,} blocks", "gray"),
        ("Preemptions", f"{summary['preemptions']:,}", "for want of blocks",
         "orange" if summary["preemptions"] else "gray"),
        ("Prefix hits", percent(summary["prefix_cache_hit_rate"]), "of prompt tokens", "gray"),
    ]  # fmt: skip
    if cached is not None:
        share = float(cached.max(initial=0)) / max(blocks, 1)
        figures.append(("Cached, peak", percent(share), "blocks that only keep a prefix", "gray"))
    else:
        figures.append(("Blocks held, mean", f"{used.mean():,.0f}", "of all stretches", "gray"))
    show_metrics(figures)


def _show_filling(folder: Path, run: RunFolder) -> None:
    rows = memory_rows(run)
    if not rows:
        st.info(
            "This run was made before results said what fills a GPU. Run its scenario again to see it.",
            icon=":material/lightbulb:",
        )
        return
    show_figure(_figure(folder, "memory_fill"), "memory-fill", lambda: _frame(rows))


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)


@st.fragment
def _show_over_time(folder: Path) -> None:
    """Show blocks over time; choosing another instance runs this part of the page alone."""
    run = open_run(folder)
    instance = None
    if len(run.instances) > 1:
        options = [_ALL, *map(str, run.instances)]
        chosen = st.selectbox("Instance", options, key="instance", bind="query-params", width=200)
        instance = None if chosen in (None, _ALL) else int(chosen)
    show_figure(_figure(folder, "kv_blocks", instance), "kv-blocks")
    st.caption(
        "State as of the start of each stretch of steps. *Cached* blocks are free to be taken, and until "
        "then a prefix in them can be found."
    )
    lost = _figure(folder, "fragmentation", instance)
    if any(len(trace.x) for trace in lost.data):
        show_figure(lost, "kv-fragmentation")
        _tell_fragmentation(run)


def _tell_fragmentation(run: RunFolder) -> None:
    shares = run.summary.get("kv_fragmentation")
    if not shares:
        st.caption(
            "Paged memory loses what is empty of each request's last block; of requests that decode, at "
            "400 moments."
        )
        return
    st.caption(
        f"Over the whole run {percent(shares['used'])} of the memory held tokens; "
        f"{percent(shares['never_used'])} was reserved and never used, "
        f"{percent(shares['outside_largest_hole'])} was free outside the largest hole. "
        f"{shares['refused']:,} requests found no region, "
        f"{shares['refused_by_fragmentation']:,} of them although as much was free."
    )


def _show_tiers(run: RunFolder) -> None:
    tiers = run.summary.get("kv_tiers")
    if tiers:
        st.subheader("Tiers behind the GPU")
        show_small_table(tier_frame(tiers), "kv-tiers")


def _show_prefixes(run: RunFolder) -> None:
    st.subheader("Shared prefixes")
    rows = prefix_rows(run)
    if not rows:
        st.caption("No request found any of its prompt in a cache.")
        return
    known = [row["share"] for row in rows if row["share"] is not None]
    st.caption(
        f"The {len(rows)} that saved most: {percent(sum(known))} of all tokens that were not computed again. "
        "A prompt is known by its streams of tokens: what ends here begins with the stream's text, or with "
        "all that came before it."
    )
    if len(rows) > _MOST_ROWS:
        show_table(prefix_frame(rows), "shared-prefixes", height=35 * (_MOST_ROWS + 1) + 3)
    else:
        show_small_table(prefix_frame(rows), "shared-prefixes")
