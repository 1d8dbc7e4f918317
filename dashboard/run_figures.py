"""What a run's summary says, in words and rows as the pages show them: none where nothing was observed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve import RunFolder, tokens_at_once

if TYPE_CHECKING:
    import pandas as pd

_STATISTICS = ("mean", "median", "p90", "p95", "p99")
_LATENCIES = ("ttft", "tpot", "itl", "e2el")
# Reasons for failures that are told.
_MOST_REASONS = 3


def observed_figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary without a TPOT where all tokens of every request came at once: its 0 is no speed."""
    if not tokens_at_once(summary):
        return dict(summary)
    return {key: None if "_tpot_" in key else value for key, value in summary.items()}


def explain_missing(summary: Mapping[str, Any]) -> str | None:
    """Return why a run has no TPOT and ITL; None if it has them, or nothing completed."""
    if tokens_at_once(summary):
        return "No TPOT and ITL: each request got all its tokens at once, as a static batch gives them."
    if summary["completed"] and summary.get("mean_tpot_ms") is None:
        return "No TPOT and ITL: no completed request has more than one output token."
    return None


def describe_run(run: RunFolder) -> str:
    """Return what served which load, in short."""
    pools = [
        f"{pool['model']} on {pool['accelerators']} x {pool['hardware']}, {pool.get('engine', 'engine')}"
        + (f", TP {pool['tensor_parallel_size']}" if pool.get("tensor_parallel_size", 1) > 1 else "")
        for pool in run.summary["pools"]
    ]
    return f"{'; '.join(pools)} · {_describe_load(run.scenario.get('workload') or {})}"


def _describe_load(workload: Mapping[str, Any]) -> str:
    trace = workload.get("trace") or {}
    arrivals = trace.get("arrivals") or workload.get("arrivals") or {}
    if arrivals.get("rate_per_s") is not None:
        rate = f"{arrivals['rate_per_s']:g} requests/s"
    elif arrivals.get("concurrency") is not None:
        rate = f"{arrivals['concurrency']} requests at a time"
    elif trace:
        scale = trace.get("rate_scale", 1)
        rate = "its own rate" if scale == 1 else f"{scale:g}x its rate"
    else:
        rate = f"{arrivals.get('kind', 'own')} arrivals"
    return f"{Path(str(trace['path'])).name}, {rate}" if trace.get("path") else rate


def latency_frame(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return the latencies in milliseconds, a row a kind."""
    import pandas as pd

    rows = [
        {"ms": name.upper()} | {each: summary.get(f"{each}_{name}_ms") for each in _STATISTICS}
        for name in _LATENCIES
    ]
    return pd.DataFrame(rows)


def pool_frame(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row a pool: what served the requests."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "pool": pool["name"],
                "model": pool["model"],
                "hardware": pool["hardware"],
                "GPUs": pool["accelerators"],
                "instances": len(pool["instances"]),
                "KV blocks": pool["kv_blocks"],
            }
            for pool in summary["pools"]
        ]
    )


def judge(summary: Mapping[str, Any], latency: str, target_s: float | None) -> tuple[str, str]:
    """Return a remark on a latency and its colour: green if p99 holds the target, orange if p90 does."""
    p90, p99 = summary.get(f"p90_{latency}_ms"), summary.get(f"p99_{latency}_ms")
    if p90 is None or p99 is None:
        return "nothing observed", "gray"
    if target_s is None:
        return "no target", "gray"
    target = format_time(target_s * 1e3)
    if p99 <= target_s * 1e3:
        return f"p99 within {target}", "green"
    if p90 <= target_s * 1e3:
        return f"p99 over {target}", "orange"
    return f"p90 over {target}", "red"


def tell_failures(failures: Mapping[str, int]) -> list[str]:
    """Return the most frequent reasons in words; those that differ in numbers alone are one."""
    alike: dict[str, list[str]] = {}
    for reason in failures:
        alike.setdefault(re.sub(r"\d[\d,.]*", "#", reason), []).append(reason)
    groups = sorted(alike.values(), key=lambda group: -sum(failures[reason] for reason in group))
    told = []
    for group in groups[:_MOST_REASONS]:
        count = sum(failures[reason] for reason in group)
        word = ", such as: " if len(group) > 1 else ": "
        told.append(f"{_count(count, 'request')} failed{word}{group[0]}")
    rest = groups[_MOST_REASONS:]
    if rest:
        count = sum(failures[reason] for group in rest for reason in group)
        told.append(f"{_count(count, 'request')} failed for {_count(len(rest), 'other reason')}")
    return told


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_time(value_ms: float) -> str:
    """Return a time in milliseconds as people read it."""
    return f"{value_ms / 1e3:.3g} s" if value_ms >= 1000 else f"{value_ms:.3g} ms"
