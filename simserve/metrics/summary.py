"""The summary of a run: the keys of `vllm bench serve --save-result`, then the simulator's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simserve.metrics.bottleneck import TimeSplit, describe_bottleneck
from simserve.metrics.columns import Ints, Mask, RequestColumns
from simserve.metrics.kv_memory import (
    summarise_fragmentation,
    summarise_imbalance,
    summarise_paths,
    summarise_tiers,
)
from simserve.metrics.latency import e2el_ns, inter_token_gaps, tpot_ns, ttft_ns
from simserve.metrics.pools import PoolInfo, cost_usd, describe_pools, energy_joules
from simserve.metrics.record import FAILED, RequestLog, StepLog
from simserve.metrics.slo import SloTargets, meets_slo
from simserve.metrics.statistics import describe_ns, describe_weighted_ns
from simserve.metrics.tenants import summarise_tenants


@dataclass(frozen=True, slots=True)
class Window:
    """Simulated time left out at either end, in seconds.

    Latencies are taken over the requests sent at least `warmup_s` after the start and `cooldown_s` before the
    last arrival; throughput and totals over those that ended at least `warmup_s` after the start and
    `cooldown_s` before the end. `completed`, `failed` and `unfinished` always count every request.
    """

    warmup_s: float = 0.0
    cooldown_s: float = 0.0


def summarise(
    log: RequestLog,
    columns: RequestColumns,
    *,
    pools: Sequence[PoolInfo] = (),
    slo: SloTargets | None = None,
    window: Window | None = None,
    time_split: Sequence[TimeSplit] = (),
    duration_ns: int | None = None,
) -> dict[str, Any]:
    """Return the figures of a run, JSON-ready, None where a figure does not exist or is unknown.

    Args:
        log: The requests.
        columns: The requests and the steps of all instances, as arrays.
        pools: What the instances are.
        slo: Targets for `slo_attainment` and `request_goodput`; None: both are None.
        window: Time to leave out; None for none.
        time_split: Where each instance's time went, for `bottleneck`; may be empty.
        duration_ns: Length of the run; None for the last end of a request.
    """
    steps = columns.steps.logs
    end_ns = int(columns.end_ns.max(initial=0)) if duration_ns is None else duration_ns
    window = window or Window()
    begin_ns, stop_ns = window.warmup_s * 1e9, end_ns - window.cooldown_s * 1e9
    last_sent_ns = int(columns.arrival_ns.max(initial=0)) - window.cooldown_s * 1e9
    sent = _between(columns.arrival_ns, begin_ns, last_sent_ns)
    ended = _between(columns.end_ns, begin_ns, stop_ns)
    duration_s = max(stop_ns - begin_ns, 0.0) / 1e9
    figures = _totals(columns, columns.completed & ended, duration_s)
    figures |= _latencies(columns, log, sent, ended, slo, duration_s)
    figures |= _resources(columns)
    figures |= summarise_fragmentation(steps)
    figures |= summarise_imbalance(steps)
    figures |= summarise_tiers(steps)
    figures |= summarise_paths(steps, end_ns / 1e9)
    figures["failures"] = _failures(log)
    figures |= summarise_tenants(
        log, columns, sent=sent, ended=ended, slo=slo, begin_ns=begin_ns, stop_ns=stop_ns
    )
    figures["energy_j"] = energy_joules(pools, steps, end_ns / 1e9)
    figures["cost_usd"] = cost_usd(pools, end_ns / 1e9)
    figures["pools"] = describe_pools(pools, steps)
    figures["bottleneck"] = describe_bottleneck(
        pools,
        steps,
        time_split,
        duration_s=end_ns / 1e9,
        preemptions=figures["preemptions"],
        requests=len(columns),
    )
    return figures


def _between(times_ns: Ints, begin_ns: float, stop_ns: float) -> Mask:
    return (times_ns >= begin_ns) & (times_ns <= stop_ns)


def _totals(columns: RequestColumns, counted: Mask, duration_s: float) -> dict[str, Any]:
    input_tokens = int(columns.prompt_tokens[counted].sum())
    output_tokens = int(columns.output_tokens[counted].sum())
    return {
        "completed": int(columns.completed.sum()),
        "failed": int(columns.failed.sum()),
        "unfinished": int((~columns.completed & ~columns.failed).sum()),
        "duration": duration_s,
        "total_input_tokens": input_tokens,
        "total_output_tokens": output_tokens,
        "request_throughput": _rate(int(counted.sum()), duration_s),
        "output_throughput": _rate(output_tokens, duration_s),
        "total_token_throughput": _rate(input_tokens + output_tokens, duration_s),
    }


def _latencies(
    columns: RequestColumns,
    log: RequestLog,
    sent: Mask,
    ended: Mask,
    slo: SloTargets | None,
    duration_s: float,
) -> dict[str, Any]:
    ttft, e2el = ttft_ns(columns), e2el_ns(columns)
    tpot = tpot_ns(columns, ttft, e2el)
    done = columns.completed & sent
    gaps, counts = inter_token_gaps(columns, log.token_steps, done)
    figures: dict[str, Any] = dict(describe_ns("ttft", ttft[done]))
    figures |= describe_ns("tpot", tpot[done & (columns.output_tokens > 1)])
    figures |= describe_weighted_ns("itl", gaps, counts)
    figures |= describe_ns("e2el", e2el[done])
    figures |= {"request_goodput": None, "slo_attainment": None}
    if slo is not None and slo.given:
        good = meets_slo(
            slo, log.slo_class, ttft_ns=ttft, tpot_ns=tpot, e2el_ns=e2el, completed=columns.completed
        )
        judged = sent & (columns.completed | columns.failed)
        figures["request_goodput"] = _rate(int((good & ended).sum()), duration_s)
        figures["slo_attainment"] = _rate(int((good & judged).sum()), int(judged.sum()))
    return figures


def _resources(columns: RequestColumns) -> dict[str, Any]:
    steps = columns.steps.logs
    admitted = columns.first_step >= 0
    usage = [max(log.used_blocks, default=0) / log.num_blocks for log in steps if log.num_blocks]
    return {
        "preemptions": int(columns.preemptions.sum()),
        "prefix_cache_hit_rate": _rate(
            int(columns.cached_tokens[admitted].sum()), int(columns.prompt_tokens[admitted].sum())
        ),
        "kv_cache_peak_usage": max(usage, default=None),
        "steps": sum(len(log.end_ns) for log in steps),
    } | _padding(steps)


def _padding(steps: Sequence[StepLog]) -> dict[str, Any]:
    """Return the share of all computed tokens that was padding or an idle seat, if any engine pads."""
    padded = [(log, log.padding_tokens) for log in steps if log.padding_tokens is not None]
    if not padded:
        return {}
    computed = 0
    for log, _ in padded:
        rows = zip(log.steps, log.prefill_tokens, log.decode_tokens, strict=True)
        computed += sum(count * (prefill + decodes) for count, prefill, decodes in rows)
    return {"padding_share": _rate(sum(tokens for _, tokens in padded), computed)}


def _failures(log: RequestLog) -> dict[str, int]:
    """Return how many requests failed for each reason, the most frequent first."""
    reasons = Counter(
        reason for reason, status in zip(log.reason, log.status, strict=True) if status == FAILED
    )
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _rate(amount: float, per: float) -> float | None:
    return amount / per if per > 0 else None
