"""A run as time series: OpenMetrics text, and at each moment what had happened by then."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from simserve.report.prometheus import metric_lines
from simserve.report.run_folder import RunFolder
from simserve.report.token_times import chunk_times, step_tokens, token_gaps
from tests.report.runs import made

SAMPLE = re.compile(r"^(?P<name>[a-z_:0-9]+)\{(?P<labels>[^}]*)\} (?P<value>\S+) (?P<time>\S+)$")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made("quickstart.yaml", tmp_path_factory.mktemp("run") / "out", "workload.trace.limit=120")


def series_of(run: RunFolder, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The moments of a metric and its values, those of all instances added up."""
    sums: dict[float, float] = defaultdict(float)
    for line in metric_lines(run):
        match = SAMPLE.match(line)
        if match and match["name"] == name:
            sums[float(match["time"])] += float(match["value"])
    return np.array(list(sums)), np.array(list(sums.values()))


def test_time_series_are_open_metrics(run: RunFolder) -> None:
    lines = list(metric_lines(run))
    assert lines[-1] == "# EOF"
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    units = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# UNIT")}
    assert all(name.endswith(f"_{unit}") for name, unit in units.items())
    assert {name for name in families if name.endswith("_seconds")} == set(units)
    last: dict[str, tuple[float, float]] = {}
    for line in lines[:-1]:
        if line.startswith("#"):
            continue
        match = SAMPLE.match(line)
        assert match, line
        key = match["name"] + match["labels"]
        value, time = float(match["value"]), float(match["time"])
        if key in last:
            assert time > last[key][1]
            if match["name"].endswith(("_total", "_bucket", "_count", "_sum")):
                assert value >= last[key][0], line
        last[key] = (value, time)

    def total(name: str) -> float:
        return sum(value for key, (value, _) in last.items() if key.startswith(name))

    requests = run.requests
    assert total("vllm:prompt_tokens_total") == run.summary["total_input_tokens"]
    assert total("vllm:generation_tokens_total") == run.summary["total_output_tokens"]
    assert total("vllm:request_success_total") == 120
    assert total("vllm:time_to_first_token_seconds_count") == 120
    assert total("vllm:time_to_first_token_seconds_sum") == pytest.approx(requests["ttft_s"].sum())
    gaps = sum(len(each) for each in token_gaps(run))
    assert total("vllm:inter_token_latency_seconds_count") == gaps
    assert total("vllm:num_requests_running") == 0  # the run is over
    parts = [total(f"vllm:request_{name}_time_seconds_sum") for name in ("queue", "prefill", "decode")]
    assert sum(parts) == pytest.approx(requests["e2el_s"].sum())
    assert total("vllm:request_inference_time_seconds_sum") == pytest.approx(sum(parts[1:]))
    assert total("vllm:request_generation_tokens_sum") == run.summary["total_output_tokens"]
    assert total("vllm:request_prompt_tokens_count") == 120


def test_gauges_are_zero_where_nothing_runs(tmp_path: Path) -> None:
    run = made("queueing-check.yaml", tmp_path / "out", "workload.requests=100")
    moments, running = series_of(run, "vllm:num_requests_running")
    steps = run.steps
    # Some sample falls between two steps that do not follow each other.
    under_way = (steps["start_s"] <= moments[:, None]) & (moments[:, None] < steps["end_s"])
    assert not under_way.any(axis=1).all()
    np.testing.assert_array_equal(running, (under_way * steps["running"]).sum(axis=1))


def test_tokens_are_counted_when_they_come(run: RunFolder) -> None:
    moments, tokens = series_of(run, "vllm:generation_tokens_total")
    came = np.concatenate(chunk_times(run))
    np.testing.assert_array_equal(tokens, (came <= moments[:, None]).sum(axis=1))


def test_preemptions_are_counted_when_they_happen(tmp_path: Path) -> None:
    run = made("kv-pressure.yaml", tmp_path / "out", "workload.requests=80")
    moments, counted = series_of(run, "vllm:num_preemptions_total")
    lost = run.spans["first_step"][run.spans["kind"] == "preempted"]
    assert len(lost)
    times = run.step_starts[0][lost]
    np.testing.assert_array_equal(counted, (times <= moments[:, None]).sum(axis=1))


@pytest.mark.parametrize(
    ("scenario", "overrides"),
    [
        ("static-batching.yaml", ["workload.requests=60"]),
        ("pipeline-parallel.yaml", ["workload.requests=60"]),
        ("kv-pressure.yaml", ["workload.requests=80"]),
        ("speculative.yaml", ["workload.requests=40"]),
    ],
)
def test_steps_give_all_tokens(tmp_path: Path, scenario: str, overrides: list[str]) -> None:
    run = made(scenario, tmp_path / "out", *overrides)
    given = sum(int(tokens.sum()) for tokens in step_tokens(run).values())
    assert given == run.requests["output_tokens"].sum() > 0
    assert all((tokens >= 0).all() for tokens in step_tokens(run).values())
    first_s = {i: run.step_ends[i][np.flatnonzero(tokens)[0]] for i, tokens in step_tokens(run).items()}
    assert min(first_s.values()) == run.requests["first_token_s"].min()


def test_a_run_without_steps_stands_at_zero(tmp_path: Path) -> None:
    run = made(
        "quickstart.yaml", tmp_path / "out", "workload.trace.limit=20", "pools.0.engine.max_model_len=1"
    )
    assert run.summary["steps"] == 0
    for name in ("vllm:num_requests_running", "vllm:generation_tokens_total", "vllm:prompt_tokens_total"):
        moments, values = series_of(run, name)
        assert len(moments)
        assert not values.any()
