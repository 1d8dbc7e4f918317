"""A run's summary as text: what was asked, how fast it was served, from what, and what to look at next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simserve.report.table import format_number, print_table

_METRICS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2EL"}
# What stands under figures of TPOT and ITL that nothing was observed for.
AT_ONCE = "no TPOT or ITL: all tokens of a request came at once, as a static batch delivers them at its end"
_FIGURES = ("mean", "median", "std", "p90", "p95", "p99")


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print a summary to standard output; its last line says what bounds the run."""
    title = summary.get("name") or "simulation"
    print(f"{title}{' (PARTIAL: stopped before its end)' if summary.get('partial') else ''}")
    for line in (*_served_lines(summary), *_count_lines(summary), *_throughput_lines(summary)):
        print(line)
    print()
    print_table(("latency, ms", *_FIGURES), [_latency_row(summary, metric) for metric in _METRICS])
    if tokens_at_once(summary):
        print(AT_ONCE)
    print()
    if "tenants" in summary:
        _print_tenants(summary)
        print()
    for line in (*_resource_lines(summary), *_note_lines(summary)):
        print(line)
    print(f"bottleneck     {summary['bottleneck']}")


def tokens_at_once(summary: Mapping[str, Any]) -> bool:
    """Return whether no request had a gap between two tokens, so that its TPOT of 0 is no observation.

    The summary keeps the 0, which is what `vllm bench serve` computes from (E2EL - TTFT) / (tokens - 1).
    """
    return summary.get("mean_itl_ms") is None and summary.get("mean_tpot_ms") == 0


def describe_pool(pool: Mapping[str, Any]) -> str:
    """Return in one line what serves in a pool of a summary, and the limits of its batches."""
    replicas = len(pool["instances"]) // pool["data_parallel_size"]
    sizes = {"TP": "tensor", "PP": "pipeline", "DP": "data"}
    parts = [
        f"{pool['model']} on {pool['accelerators']} x {pool['hardware']}",
        f"{replicas} instance{'s' if replicas != 1 else ''} of {pool['engine']}",
        " ".join(f"{short} {pool[f'{name}_parallel_size']}" for short, name in sizes.items()),
    ]
    limits = ("max_num_seqs", "max_num_batched_tokens")
    return ", ".join(parts + [f"{key} {pool[key]:,}" for key in limits if pool[key] is not None])


def _served_lines(summary: Mapping[str, Any]) -> list[str]:
    pools = summary.get("pools", ())
    if len(pools) == 1:
        return [f"served by      {describe_pool(pools[0])}"]
    return [
        f"{'' if number else 'served by':<15}{pool['name']}: {describe_pool(pool)}"
        for number, pool in enumerate(pools)
    ]


def _count_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = [
        f"requests       {summary['completed']:,} completed, {summary['failed']:,} failed, "
        f"{summary['unfinished']:,} unfinished in {summary['duration']:,.1f} simulated seconds"
    ]
    lines += [f"  failed       {count:,}: {reason}" for reason, count in summary.get("failures", {}).items()]
    if summary.get("zero_lengths"):
        lines.append(f"  lengths      {summary['zero_lengths']:,} lengths of 0 ran as 1")
    return lines


def _throughput_lines(summary: Mapping[str, Any]) -> list[str]:
    number = format_number
    line = f"throughput     {number(summary['request_throughput'])} requests/s, "
    line += f"{number(summary['output_throughput'])} output tokens/s, "
    line += f"{number(summary['total_token_throughput'])} tokens/s in all"
    if summary["slo_attainment"] is None:
        return [line]
    goodput = f"goodput        {number(summary['request_goodput'])} requests/s within the SLO "
    return [line, goodput + f"({summary['slo_attainment']:.1%} of the requests)"]


def _latency_row(summary: Mapping[str, Any], metric: str) -> list[str]:
    observed = metric != "tpot" or not tokens_at_once(summary)
    figures = [format_number(summary[f"{figure}_{metric}_ms"] if observed else None) for figure in _FIGURES]
    return [_METRICS[metric], *figures]


def _print_tenants(summary: Mapping[str, Any]) -> None:
    """Print a line a tenant, and how evenly they were served while several had requests outstanding."""
    number = format_number
    keys = ("mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "mean_e2el_ms", "p99_e2el_ms")
    head = ("tenant", "completed", "output tokens/s", *(key.replace("_", " ") for key in keys))
    rows = []
    for name, figures in summary["tenants"].items():
        latencies = [
            number(None if "tpot" in key and tokens_at_once(summary) else figures[key]) for key in keys
        ]
        rows.append(
            [name or "(none)", f"{figures['completed']:,}", number(figures["output_throughput"]), *latencies]
        )
    print_table(head, rows)
    fairness = summary["fairness"]
    if fairness["jain_index"] is not None:
        print(
            f"fairness       Jain's index {fairness['jain_index']:.3f} of the tenants' service in windows of "
            f"{fairness['window_s']:.3g} s at whose ends several had requests waiting"
        )


def _resource_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = [
        f"KV cache       {_percent(summary['kv_cache_peak_usage'])} of the blocks used at the peak, "
        f"{summary['preemptions']:,} preemptions, {_percent(summary['prefix_cache_hit_rate'])} prefix hits"
    ]
    lines += _memory_lines(summary)
    if summary.get("padding_share") is not None:
        lines.append(f"padding        {_percent(summary['padding_share'])} of the computed tokens")
    known = [("energy_j", "J"), ("cost_usd", "USD")]
    lines += [
        f"{key[:6]:<15}{format_number(summary[key])} {unit}"
        for key, unit in known
        if summary[key] is not None
    ]
    return lines


def _memory_lines(summary: Mapping[str, Any]) -> list[str]:
    """Where KV memory went that is no common pool of blocks."""
    lines = []
    regions, shards = summary.get("kv_fragmentation"), summary.get("kv_imbalance")
    if regions:
        lines.append(
            f"  regions      {_percent(regions['used'])} of the memory held tokens, "
            f"{_percent(regions['reserved_for_later'])} was reserved for later ones and "
            f"{_percent(regions['never_used'])} for none, {_percent(regions['rounded_up'])} was rounding, "
            f"{_percent(regions['free'])} free"
        )
    if shards and shards["fullest_over_mean"] is not None:
        lines.append(
            f"  shards       the fullest GPU held {shards['fullest_over_mean']:.3f} times the mean; "
            f"{_percent(shards['stranded'])} of the blocks could not be filled for it"
        )
    return lines


def _note_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    calibration = summary.get("calibration")
    if calibration:
        lines.append(f"step times     {_calibration_text(calibration)}")
    return lines + [f"warning        {text}" for text in summary.get("warnings", ())]


def _calibration_text(calibration: Mapping[str, Any]) -> str:
    error = calibration.get("error_percent")
    stated = "no stated error" if error is None else f"off by {error:.3g} % for {calibration.get('error_of')}"
    return f"{calibration.get('tier')}, {stated}; {calibration.get('source')}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
