"""A run as time series under vLLM's own metric names, in OpenMetrics text.

`promtool tsdb create-blocks-from openmetrics FILE DIR` loads it into Prometheus; the run starts at the epoch.
Names, labels and buckets are those of vLLM 0.19 (`vllm/v1/metrics/loggers.py`). A sample is written at every
interval; counters and histograms are cumulative, as a server's. What vLLM counts in every iteration (tokens,
preemptions) grows step by step, what it observes when a request ends is observed at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from simserve.report.load_figures import load_series, preemptions_of
from simserve.report.open_metrics import (
    Events,
    Series,
    counter_lines,
    family_lines,
    gauge_lines,
    histogram_lines,
)
from simserve.report.run_folder import Column, Floats, RunFolder
from simserve.report.token_times import step_tokens, token_gaps

# Prometheus scrapes every 15 s by default; long runs get at most so many samples a series.
_INTERVAL_S, _MOST_SAMPLES = 15.0, 2000
_GAUGES = (
    ("vllm:num_requests_running", "running", "Requests in the batch."),
    ("vllm:num_requests_waiting", "waiting", "Requests waiting to be processed."),
    ("vllm:kv_cache_usage_perc", "kv_usage", "KV-cache usage; 1 is 100 percent."),
)
_TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_ITL_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip
Observe = Callable[[int], Events]


def write_prometheus(run: RunFolder, path: Path) -> None:
    """Write the time series of every instance."""
    path.write_text("".join(f"{line}\n" for line in metric_lines(run)), encoding="utf-8")


def metric_lines(run: RunFolder) -> Iterator[str]:
    """Yield the lines of the file."""
    moments = _moments(run)
    # An instance that never had anything to do stands at 0, as a server's.
    instances = [number for pool in run.summary["pools"] for number in pool["instances"]]
    for name, quantity, text in _GAUGES:
        yield from family_lines(name, "gauge", text)
        for number in instances:
            series = load_series(run, number, quantity)
            yield from gauge_lines(name, _labels(run, number), moments, *series)
    for name, text, parts in _counted(run):
        yield from family_lines(name, "counter", text)
        labelled = [
            Series(_labels(run, number) + more, observe(number))
            for number in instances
            for more, observe in parts.items()
        ]
        yield from counter_lines(name, moments, labelled)
    for name, text, bounds, observe in _measured(run):
        yield from family_lines(name, "histogram", text)
        labelled = [Series(_labels(run, number), observe(number)) for number in instances]
        yield from histogram_lines(name, moments, bounds, labelled)
    yield "# EOF"


def _moments(run: RunFolder) -> Floats:
    end_s = max((float(ends[-1]) for ends in run.step_ends.values()), default=0.0)
    # Requests may end after the last step, or without any: those that time out.
    end_s = max(end_s, float(np.nan_to_num(run.requests["finish_s"]).max(initial=0.0)))
    interval_s = max(_INTERVAL_S, end_s / _MOST_SAMPLES) if end_s > _INTERVAL_S else max(end_s, 1.0) / 10
    return np.asarray(np.arange(1, max(int(np.ceil(end_s / interval_s)), 1) + 1) * interval_s)


def _counted(run: RunFolder) -> Iterator[tuple[str, str, dict[str, Observe]]]:
    """Yield the counters: name, text, and by further labels what adds to it on an instance."""
    requests, tokens = run.requests, step_tokens(run)
    prompts, hits = requests["prompt_tokens"], np.maximum(requests["cached_tokens"], 0)

    def generated(instance: int) -> Events:
        if instance not in tokens:
            return Events(np.empty(0), np.empty(0))
        return Events(run.step_ends[instance], tokens[instance].astype(np.float64))

    yield "vllm:prompt_tokens", "Prefill tokens processed.", {"": _at(run, "first_token_s", prompts)}
    yield "vllm:generation_tokens", "Generation tokens processed.", {"": generated}
    yield (
        "vllm:prefix_cache_queries",
        "Tokens looked up in the prefix cache.",
        {"": _at(run, "first_scheduled_s", prompts)},
    )
    yield (
        "vllm:prefix_cache_hits",
        "Tokens found in the prefix cache.",
        {"": _at(run, "first_scheduled_s", hits)},
    )
    yield "vllm:num_preemptions", "Preemptions of requests.", {"": _preempted(run)}
    ended = {
        reason: (requests["status"] == "completed") & (requests["reason"] == reason)
        for reason in ("length", "stop")
    }
    yield (
        "vllm:request_success",
        "Requests served.",
        {f',finished_reason="{reason}"': _at(run, "finish_s", rows) for reason, rows in ended.items()},
    )


def _measured(run: RunFolder) -> Iterator[tuple[str, str, tuple[float, ...], Observe]]:
    """Yield the histograms: name, text, bounds of the buckets, and an instance's observations."""
    requests = run.requests
    at_end = {
        "time_per_output_token": (np.nan_to_num(requests["tpot_s"]), _ITL_BUCKETS),
        "queue_time": (requests["first_scheduled_s"] - requests["arrival_s"], _REQUEST_BUCKETS),
        "prefill_time": (requests["first_token_s"] - requests["first_scheduled_s"], _REQUEST_BUCKETS),
        "decode_time": (requests["finish_s"] - requests["first_token_s"], _REQUEST_BUCKETS),
        "inference_time": (requests["finish_s"] - requests["first_scheduled_s"], _REQUEST_BUCKETS),
    }
    ttft, e2el = _at(run, "first_token_s", requests["ttft_s"]), _at_end(run, requests["e2el_s"])
    yield "vllm:time_to_first_token_seconds", "Time to first token.", _TTFT_BUCKETS, ttft
    yield "vllm:inter_token_latency_seconds", "Inter-token latency.", _ITL_BUCKETS, _between_tokens(run)
    yield "vllm:e2e_request_latency_seconds", "End-to-end request latency.", _REQUEST_BUCKETS, e2el
    for name, (values, bounds) in at_end.items():
        text = f"{name.replace('_', ' ').capitalize()} of a request."
        yield f"vllm:request_{name}_seconds", text, bounds, _at_end(run, values)
    for name, column in (("prompt", "prompt_tokens"), ("generation", "output_tokens")):
        bounds = _lengths(requests[column])
        text = f"{name.capitalize()} tokens of a request."
        yield f"vllm:request_{name}_tokens", text, bounds, _at_end(run, requests[column])


def _at(run: RunFolder, times: str, values: Column) -> Observe:
    """Return what observes `values`, a row of the requests each, at the time that a column tells."""
    at_s, instances = run.requests[times], run.requests["instance"]
    known = ~np.isnan(at_s) & ~np.isnan(values.astype(np.float64))

    def observe(instance: int) -> Events:
        rows = known & (instances == instance)
        return Events(at_s[rows], values[rows].astype(np.float64))

    return observe


def _at_end(run: RunFolder, values: Column) -> Observe:
    """Return what observes `values` at the end of each request that completed."""
    done = run.requests["status"] == "completed"
    return _at(run, "finish_s", np.where(done, values, np.nan))


def _preempted(run: RunFolder) -> Observe:
    """Return what counts preemptions when they happen."""
    times_s, instances = preemptions_of(run)
    return lambda instance: Events(
        times_s[instances == instance], np.ones(int((instances == instance).sum()))
    )


def _between_tokens(run: RunFolder) -> Observe:
    gaps, requests = token_gaps(run), run.requests

    def observe(instance: int) -> Events:
        rows = np.flatnonzero(requests["instance"] == instance).tolist()
        times = [requests["first_token_s"][row] + np.cumsum(gaps[row]) for row in rows]
        values = [gaps[row] for row in rows]
        return Events(np.concatenate([*times, np.empty(0)]), np.concatenate([*values, np.empty(0)]))

    return observe


def _lengths(tokens: Column) -> tuple[float, ...]:
    """Return the bounds 1, 2, 5, 10, ... up to the first that no request is above.

    vLLM's go up to `max_model_len`, which the folder does not tell.
    """
    bounds, most = [1], int(tokens.max(initial=1))
    while bounds[-1] < most:
        bounds.append(bounds[-1] * 5 // 2 if str(bounds[-1]).startswith("2") else bounds[-1] * 2)
    return tuple(bounds)


def _labels(run: RunFolder, instance: int) -> str:
    model = str(run.pool_of(instance)["model"]).replace("\\", "\\\\").replace('"', '\\"')
    return f'model_name="{model}",engine="{instance}"'
