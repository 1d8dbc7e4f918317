"""What the papers measure, read off a run's record: figures by the names that the tables' columns have."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from simserve.metrics.columns import Floats, Ints, RequestColumns
from simserve.metrics.record import RequestLog
from simserve.metrics.result import Result
from simserve.scenario.schema import Scenario

# What a token counts in VTC's cost function (Sheng et al., OSDI 2024, section 5.1): input, output.
_WEIGHTS = (1, 2)


def summary_figure(key: str, scale: float = 1.0) -> Callable[[Result], float | None]:
    """Return a function that reads one figure of the summary, times `scale`."""

    def read(result: Result) -> float | None:
        value = result.summary.get(key)
        return None if value is None else float(value) * scale

    return read


def fragmentation_figure(key: str) -> Callable[[Result], float | None]:
    """Return a function that reads one share of `kv_fragmentation`."""

    def read(result: Result) -> float | None:
        value = result.summary.get("kv_fragmentation", {}).get(key)
        return None if value is None else float(value)

    return read


def seconds_per_token(result: Result) -> Floats:
    """Return the normalised latency of each completed request: end to end, over its output tokens, s."""
    columns = RequestColumns.of(result.requests, result.steps)
    done = columns.completed
    latency_s: Floats = (columns.end_ns - columns.arrival_ns)[done] / 1e9 / columns.output_tokens[done]
    return latency_s


def median_wait_s(result: Result) -> float | None:
    """Return the median time from arrival to the first step, s."""
    columns = RequestColumns.of(result.requests, result.steps)
    admitted = columns.first_step >= 0
    waits = (columns.first_scheduled_ns() - columns.arrival_ns)[admitted]
    return float(np.median(waits)) / 1e9 if len(waits) else None


def mean_batch(result: Result) -> float:
    """Return how many requests ran in a step, on average over the steps."""
    steps = sum(sum(log.steps) for log in result.steps)
    running = sum(
        count * many for log in result.steps for count, many in zip(log.steps, log.running, strict=True)
    )
    return running / max(steps, 1)


def step_times(result: Result) -> tuple[float, float | None]:
    """Return the share of the busy time in steps of prompts alone, and the mean step of decodes alone, s."""
    alone_ns = decode_ns = busy_ns = decode_steps = 0
    for log in result.steps:
        ends = np.array(log.end_ns)
        first, steps = np.array(log.first_step), np.array(log.steps)
        duration = ends[first + steps - 1] - np.array(log.start_ns)
        prompts, decodes = np.array(log.prefill_tokens) > 0, np.array(log.decode_tokens) > 0
        busy_ns += int(duration.sum())
        alone_ns += int(duration[prompts & ~decodes].sum())
        decode_ns += int(duration[~prompts].sum())
        decode_steps += int(steps[~prompts].sum())
    return alone_ns / max(busy_ns, 1), decode_ns / decode_steps / 1e9 if decode_steps else None


def paged_shares(result: Result) -> tuple[float, float]:
    """Return what paged KV memory holds: tokens over the places given out, and over all places.

    The first is over the steps in which a request computes, from the record of every request; the second
    takes the places given out from the engine's steps.
    """
    assert isinstance(result.scenario, Scenario)
    log, size = result.steps[0], result.scenario.pools[0].engine.block_size
    used = given = 0
    for held in _held_tokens(result.requests):
        used += int(held.sum())
        given += int((-(-held // size)).sum()) * size
    share = used / max(given, 1)
    blocks = sum(count * many for count, many in zip(log.steps, log.used_blocks, strict=True))
    return share, share * blocks / max(len(log.end_ns) * log.num_blocks, 1)


def service_gap(result: Result) -> tuple[float, float]:
    """Return how unequally two tenants are served while both have requests waiting (VTC's measure).

    Returns:
        The largest difference, over any interval, of the service that the two get, in weighted tokens; and
        the first one's service in the whole time, over the other's, tenants in the order of their names.
    """
    log, steps = result.requests, result.steps[0]
    ends = np.array(steps.end_ns)
    names = sorted(set(log.tenant))
    service = np.zeros((len(names), len(ends)))
    for row, request in enumerate(log.request_id):
        given = service[names.index(log.tenant[row])]
        given[log.first_token_step[row]] += _WEIGHTS[0] * log.prompt_tokens[row]
        taken = log.token_steps.get(request)
        if taken is None:
            given[log.first_token_step[row] : log.finish_step[row] + 1] += _WEIGHTS[1]
        else:
            np.add.at(given, np.array(taken), _WEIGHTS[1])
    total = service.cumsum(axis=1)
    begin, end = _backlogged_steps(log, ends, names)
    ahead = (total[0] - total[1])[begin:end]
    first, second = (total[:, end - 1] - total[:, begin]).tolist()
    return float(ahead.max() - ahead.min()), first / second


def _backlogged_steps(log: RequestLog, ends: Ints, names: list[str]) -> tuple[int, int]:
    """Return the first and the end of the steps in which all tenants have requests waiting throughout."""
    arrivals, firsts = np.array(log.arrival_ns), np.array(log.first_step)
    tenant = np.array([names.index(name) for name in log.tenant])
    waiting = np.ones(len(ends), dtype=bool)
    for number in range(len(names)):
        sent = np.searchsorted(np.sort(arrivals[tenant == number]), ends, side="right")
        seated = np.searchsorted(np.sort(firsts[tenant == number]), np.arange(len(ends)), side="right")
        waiting &= sent > seated
    # The longest stretch of such steps.
    edges = np.flatnonzero(np.diff(np.concatenate(([0], waiting.view(np.int8), [0]))))
    begins, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - begins))
    return int(begins[longest]), int(stops[longest])


def _held_tokens(log: RequestLog) -> Iterator[Ints]:
    """Yield, for each request, the tokens that it holds after each step in which it computes any."""
    for row, request in enumerate(log.request_id):
        spans = log.spans.get(request)
        if spans is None:
            first, last = log.first_token_step[row], log.finish_step[row]
            spans = [("prefill", first, first, log.prompt_tokens[row]), ("decode", first, last, last - first)]
        held = 0
        for kind, begin, end, tokens in spans:
            if kind == "prefill":
                held += tokens
                yield np.full(end - begin + 1, held, dtype=np.int64)
            elif kind == "decode":
                yield np.arange(held + 1, held + tokens + 1, dtype=np.int64)
                held += tokens
            else:
                held = 0


FIGURES: dict[str, Callable[[Result], float | None]] = {
    "requests/s": summary_figure("request_throughput"),
    "output tokens/s": summary_figure("output_throughput"),
    "tokens/s": summary_figure("total_token_throughput"),
    "mean s/token": lambda result: float(seconds_per_token(result).mean()),
    "median s/token": lambda result: float(np.median(seconds_per_token(result))),
    "P99 ITL, s": summary_figure("p99_itl_ms", 1e-3),
    "mean TPOT, s": summary_figure("mean_tpot_ms", 1e-3),
    "mean E2EL, s": summary_figure("mean_e2el_ms", 1e-3),
    "median wait, s": median_wait_s,
    "mean batch": mean_batch,
    "time of prompts alone": lambda result: step_times(result)[0],
    "decode step, s": lambda result: step_times(result)[1],
    "preemptions": summary_figure("preemptions"),
    "padding": summary_figure("padding_share"),
    "hit rate": summary_figure("prefix_cache_hit_rate"),
    "KV used (one piece)": fragmentation_figure("used"),
    "KV reserved, not used yet": fragmentation_figure("reserved_for_later"),
    "KV rounded up": fragmentation_figure("rounded_up"),
    "KV never used": fragmentation_figure("never_used"),
    "KV free": fragmentation_figure("free"),
    "used of blocks given out": lambda result: paged_shares(result)[0],
    "used of all blocks": lambda result: paged_shares(result)[1],
    "service gap, tokens": lambda result: service_gap(result)[0],
    "service, fast over slow": lambda result: service_gap(result)[1],
}
