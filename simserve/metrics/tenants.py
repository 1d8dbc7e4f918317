"""Figures by tenant, and how fairly the engines' service was shared between tenants over time.

Service is weighted tokens, as in Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024: a
prompt token counts 1, an output token 2, of requests that completed. Fairness is judged in windows of time,
since at the end of a run everyone has got what they asked for: in each window Jain's index (Jain, Chiu and
Hawe, DEC-TR-301, 1984) of the tenants that were backlogged: had requests waiting at both of its ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.metrics.columns import Floats, Ints, Mask, RequestColumns
from simserve.metrics.latency import e2el_ns, tpot_ns, ttft_ns
from simserve.metrics.record import RequestLog
from simserve.metrics.slo import SloTargets, meets_slo
from simserve.metrics.statistics import describe_ns

INPUT_WEIGHT, OUTPUT_WEIGHT = 1, 2
# The tenants with the most requests that are shown.
_MOST_TENANTS = 100
# Windows of 60 s, T = 30 s to either side as in the paper's section 5.1, or of a twentieth of a short run.
_WINDOW_S = 60.0
_FEWEST_WINDOWS = 20


def summarise_tenants(
    log: RequestLog,
    columns: RequestColumns,
    *,
    sent: Mask,
    ended: Mask,
    slo: SloTargets | None,
    begin_ns: float,
    stop_ns: float,
) -> dict[str, Any]:
    """Return `tenants` and `fairness` of a run, or nothing if it has one tenant.

    Args:
        log: The requests.
        columns: The same as arrays.
        sent, ended: `[n]`, the requests that count for latencies, and for throughput.
        slo: Targets for each tenant's attainment.
        begin_ns, stop_ns: The part of the run that counts.
    """
    members = _find_members(log)
    if len(members) < 2:
        return {}
    ttft, e2el = ttft_ns(columns), e2el_ns(columns)
    tpot = tpot_ns(columns, ttft, e2el)
    good = None
    if slo is not None and slo.given:
        good = meets_slo(
            slo, log.slo_class, ttft_ns=ttft, tpot_ns=tpot, e2el_ns=e2el, completed=columns.completed
        )
    duration_s = max(stop_ns - begin_ns, 0.0) / 1e9
    tenants = {}
    for name, rows in members.items():
        figures = _count(columns, rows, ended, duration_s)
        done = rows[columns.completed[rows] & sent[rows]]
        figures |= describe_ns("ttft", ttft[done])
        figures |= describe_ns("tpot", tpot[done[columns.output_tokens[done] > 1]])
        figures |= describe_ns("e2el", e2el[done])
        judged = rows[sent[rows] & (columns.completed | columns.failed)[rows]]
        is_judged = good is not None and len(judged)
        figures["slo_attainment"] = float(good[judged].mean()) if is_judged else None  # type: ignore[index]
        tenants[name] = figures
    return {"tenants": tenants, "fairness": _judge(columns, list(members.values()), begin_ns, stop_ns)}


def jain_index(values: Floats) -> float:
    """Return Jain's index of values that are not negative: 1 if all are equal, 1/n if one has all.

    Args:
        values: `[n]`; if all are 0 they are equal.
    """
    squares = float(values @ values)
    return float(values.sum()) ** 2 / (len(values) * squares) if squares else 1.0


def _find_members(log: RequestLog) -> dict[str, Ints]:
    """Return the rows of each tenant, by name; of too many, those with the most requests."""
    names = sorted(set(log.tenant))
    if len(names) < 2:
        return {}
    numbers = {name: number for number, name in enumerate(names)}
    tenant = np.fromiter(map(numbers.__getitem__, log.tenant), dtype=np.int64, count=len(log.tenant))
    rows = np.argsort(tenant, kind="stable")
    counts = np.bincount(tenant, minlength=len(names))
    begins = np.cumsum(counts) - counts
    shown = np.sort(np.argsort(-counts, kind="stable")[:_MOST_TENANTS]).tolist()
    return {names[each]: rows[begins[each] : begins[each] + counts[each]] for each in shown}


def _count(columns: RequestColumns, rows: Ints, ended: Mask, duration_s: float) -> dict[str, Any]:
    completed, failed = columns.completed[rows], columns.failed[rows]
    counted = rows[completed & ended[rows]]
    output_tokens = int(columns.output_tokens[counted].sum())
    return {
        "completed": int(completed.sum()),
        "failed": int(failed.sum()),
        "unfinished": int((~completed & ~failed).sum()),
        "total_input_tokens": int(columns.prompt_tokens[counted].sum()),
        "total_output_tokens": output_tokens,
        "output_throughput": output_tokens / duration_s if duration_s else None,
        "preemptions": int(columns.preemptions[rows].sum()),
    }


def _judge(
    columns: RequestColumns, members: list[Ints], begin_ns: float, stop_ns: float
) -> dict[str, float | None]:
    """Return the fairness of the service in windows between two moments."""
    window_s = min(_WINDOW_S, (stop_ns - begin_ns) / 1e9 / _FEWEST_WINDOWS)
    figures: dict[str, float | None] = {"window_s": window_s, "jain_index": None}
    figures |= {"mean_service_gap": None, "max_service_gap": None}
    if window_s <= 0:
        return figures
    edges = np.arange(begin_ns, stop_ns + 1, window_s * 1e9)
    first_token = columns.first_token_ns()
    service = np.array([_service(columns, rows, first_token[rows], edges) for rows in members])
    admitted = columns.first_scheduled_ns()
    waits = np.array([_is_backlogged(columns, rows, admitted[rows], edges) for rows in members])
    rates = np.diff(service, axis=1) / window_s
    active = waits[:, :-1] & waits[:, 1:]
    shared = np.flatnonzero(active.sum(axis=0) > 1)
    if len(shared):
        windows = [rates[active[:, each], each] for each in shared]
        gaps = [float(each.max() - each.min()) for each in windows]
        figures["jain_index"] = sum(jain_index(each) for each in windows) / len(windows)
        figures |= {"mean_service_gap": sum(gaps) / len(gaps), "max_service_gap": max(gaps)}
    return figures


def _service(columns: RequestColumns, rows: Ints, first_token_ns: Ints, times: Floats) -> Floats:
    """Return `[times]` the service that requests have got until then.

    A prompt is served with its first token, outputs at an even pace from there to the last.
    """
    done = rows[columns.completed[rows]]
    begins = first_token_ns[columns.completed[rows]].astype(np.float64)
    ends = np.maximum(columns.end_ns[done].astype(np.float64), begins + 1.0)
    pace = OUTPUT_WEIGHT * columns.output_tokens[done] / (ends - begins)
    prompts = _sum_until(begins, (INPUT_WEIGHT * columns.prompt_tokens[done]).astype(np.float64), times)
    rising = _sum_until(begins, pace, times) * times - _sum_until(begins, pace * begins, times)
    risen = _sum_until(ends, pace, times) * times - _sum_until(ends, pace * ends, times)
    return prompts + rising - risen


def _sum_until(moments: Floats, amounts: Floats, times: Floats) -> Floats:
    """Return `[times]` the sum of the amounts whose moment has come."""
    order = np.argsort(moments, kind="stable")
    sums = np.concatenate(([0.0], np.cumsum(amounts[order])))
    summed: Floats = sums[np.searchsorted(moments[order], times, side="right")]
    return summed


def _is_backlogged(columns: RequestColumns, rows: Ints, admitted_ns: Ints, times: Floats) -> Mask:
    """Return `[times]` whether any of the requests had been sent, and had neither a seat yet nor failed."""
    served = np.where(admitted_ns < 0, columns.end_ns[rows], admitted_ns)
    served = np.where(served < 0, np.iinfo(np.int64).max, served)
    sent = np.searchsorted(np.sort(columns.arrival_ns[rows]), times, side="right")
    gone = np.searchsorted(np.sort(served), times, side="right")
    waiting: Mask = sent > gone
    return waiting
