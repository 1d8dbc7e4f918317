"""A run as time series under vLLM's own metric names, in OpenMetrics text.

`promtool tsdb create-blocks-from openmetrics FILE DIR` loads it into Prometheus; the run starts at the epoch.
Names, labels and buckets are those of vLLM 0.19 (`vllm/v1/metrics/loggers.py`). A sample is written at every
interval; counters and histograms are cumulative, as a server's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simserve.report.run_folder import Column, Floats, RunFolder
from simserve.report.token_times import token_gaps

# Prometheus scrapes every 15 s by default; long runs get at most so many samples a series.
_INTERVAL_S, _MOST_SAMPLES = 15.0, 2000
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


class Observed(NamedTuple):
    """A histogram's observations on one instance: when they were made, and their values."""

    times_s: Floats
    values: Floats


def write_prometheus(run: RunFolder, path: Path) -> None:
    """Write the time series of every instance."""
    path.write_text("".join(f"{line}\n" for line in metric_lines(run)), encoding="utf-8")


def metric_lines(run: RunFolder) -> Iterator[str]:
    """Yield the lines of the file."""
    moments = _moments(run)
    for name, column, text in (
        ("vllm:num_requests_running", "running", "Requests in the batch."),
        ("vllm:num_requests_waiting", "waiting", "Requests waiting to be processed."),
    ):
        yield from _gauge(run, moments, name, text, run.steps[column].astype(np.float64))
    name, text = "vllm:kv_cache_usage_perc", "KV-cache usage; 1 is 100 percent."
    yield from _gauge(run, moments, name, text, _usage(run))
    for name, text, observed in _counted(run):
        yield from _counter(run, moments, name, text, observed)
    for name, text, buckets, measured in _measured(run):
        yield from _histogram(run, moments, name, text, buckets, measured)
    yield "# EOF"


def _moments(run: RunFolder) -> Floats:
    end_s = max((float(ends[-1]) for ends in run.step_ends.values()), default=0.0)
    interval_s = max(_INTERVAL_S, end_s / _MOST_SAMPLES) if end_s > _INTERVAL_S else max(end_s, 1.0) / 10
    return np.asarray(np.arange(1, int(np.ceil(end_s / interval_s)) + 1) * interval_s)


def _usage(run: RunFolder) -> Floats:
    """Share of the KV blocks in use, a row of `steps` each."""
    blocks = {i: max(run.pool_of(i)["kv_blocks"], 1) for i in run.instances}
    capacity = np.array([blocks[int(i)] for i in run.steps["instance"]], dtype=np.float64)
    return np.asarray(run.steps["kv_used_blocks"] / capacity)


def _gauge(run: RunFolder, moments: Floats, name: str, text: str, values: Column) -> Iterator[str]:
    yield from _head(name, "gauge", text)
    for instance in run.instances:
        rows = np.flatnonzero(run.steps["instance"] == instance)
        starts, last_s = run.steps["start_s"][rows], float(run.step_ends[instance][-1])
        place = np.searchsorted(starts, moments, side="right") - 1
        series = np.where((place < 0) | (moments > last_s), 0.0, values[rows][np.maximum(place, 0)])
        for moment, value in zip(moments.tolist(), series.tolist(), strict=True):
            yield f"{name}{_labels(run, instance)} {value:.10g} {moment:.3f}"


def _counted(run: RunFolder) -> Iterator[tuple[str, str, Callable[[int], Observed]]]:
    """Counters: name, text, and what adds to it on an instance, when."""
    requests = run.requests

    def of(times: str, values: Column) -> Callable[[int], Observed]:
        def observe(instance: int) -> Observed:
            rows = (requests["instance"] == instance) & ~np.isnan(requests[times])
            return Observed(requests[times][rows], values[rows].astype(np.float64))

        return observe

    prompts, outputs = requests["prompt_tokens"], requests["output_tokens"]
    hits = np.maximum(requests["cached_tokens"], 0)
    yield "vllm:prompt_tokens", "Prefill tokens processed.", of("first_token_s", prompts)
    yield "vllm:generation_tokens", "Generation tokens processed.", of("finish_s", outputs)
    yield (
        "vllm:prefix_cache_queries",
        "Tokens looked up in the prefix cache.",
        of("first_scheduled_s", prompts),
    )
    yield "vllm:prefix_cache_hits", "Tokens found in the prefix cache.", of("first_scheduled_s", hits)
    yield (
        "vllm:num_preemptions",
        "Preemptions of requests, at their end.",
        of("finish_s", requests["preemptions"]),
    )
    for reason in ("length", "stop"):
        ended = ((requests["status"] == "completed") & (requests["reason"] == reason)).astype(np.int64)
        yield f'vllm:request_success{{finished_reason="{reason}"}}', "Requests served.", of("finish_s", ended)


def _counter(
    run: RunFolder, moments: Floats, name: str, text: str, observed: Callable[[int], Observed]
) -> Iterator[str]:
    family, _, more = name.partition("{")
    if not more or 'reason="length"' in more:
        yield from _head(family, "counter", text)
    extra = more.rstrip("}")
    for instance in run.instances:
        times, values = observed(instance)
        order = np.argsort(times, kind="stable")
        total = np.concatenate(([0.0], np.cumsum(values[order])))
        series = total[np.searchsorted(times[order], moments, side="right")]
        for moment, value in zip(moments.tolist(), series.tolist(), strict=True):
            yield f"{family}_total{_labels(run, instance, extra)} {value:.10g} {moment:.3f}"


def _measured(
    run: RunFolder,
) -> Iterator[tuple[str, str, tuple[float, ...], Callable[[int], Observed]]]:
    """Histograms: name, text, buckets, and an instance's observations."""
    requests = run.requests

    def of(times: str, values: str) -> Callable[[int], Observed]:
        def observe(instance: int) -> Observed:
            rows = (requests["instance"] == instance) & ~np.isnan(requests[values])
            return Observed(requests[times][rows], requests[values][rows])

        return observe

    gaps = token_gaps(run)

    def between_tokens(instance: int) -> Observed:
        rows = np.flatnonzero(requests["instance"] == instance).tolist()
        times = [requests["first_token_s"][row] + np.cumsum(gaps[row]) for row in rows]
        values = [gaps[row] for row in rows]
        return Observed(np.concatenate([*times, np.empty(0)]), np.concatenate([*values, np.empty(0)]))

    ttft, e2el = of("first_token_s", "ttft_s"), of("finish_s", "e2el_s")
    yield "vllm:time_to_first_token_seconds", "Time to first token.", _TTFT_BUCKETS, ttft
    yield "vllm:inter_token_latency_seconds", "Inter-token latency.", _ITL_BUCKETS, between_tokens
    yield "vllm:e2e_request_latency_seconds", "End-to-end request latency.", _REQUEST_BUCKETS, e2el


def _histogram(
    run: RunFolder,
    moments: Floats,
    name: str,
    text: str,
    buckets: tuple[float, ...],
    observed: Callable[[int], Observed],
) -> Iterator[str]:
    yield from _head(name, "histogram", text)
    for instance in run.instances:
        times, values = observed(instance)
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        seen = np.searchsorted(times, moments, side="right")
        total = np.concatenate(([0.0], np.cumsum(values)))
        below = [np.concatenate(([0], np.cumsum(values <= bound))) for bound in buckets]
        for moment, count in zip(moments.tolist(), seen.tolist(), strict=True):
            for bound, cumulative in zip(buckets, below, strict=True):
                labels = _labels(run, instance, f'le="{bound}"')
                yield f"{name}_bucket{labels} {int(cumulative[count])} {moment:.3f}"
            labels = _labels(run, instance, 'le="+Inf"')
            yield f"{name}_bucket{labels} {count} {moment:.3f}"
            yield f"{name}_count{_labels(run, instance)} {count} {moment:.3f}"
            yield f"{name}_sum{_labels(run, instance)} {total[count]:.10g} {moment:.3f}"


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _labels(run: RunFolder, instance: int, extra: str = "") -> str:
    model = str(run.pool_of(instance)["model"]).replace("\\", "\\\\").replace('"', '\\"')
    return f'{{model_name="{model}",engine="{instance}"{"," + extra if extra else ""}}}'
