"""A run against its simulation: made-up servers whose times are known, and real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.engine.profile import load_profile
from simserve.errors import InputError
from simserve.scenario.loader import load_scenario
from simserve.study.validate import validate_result, validate_run
from tests.study.conftest import MadeRow, WriteRun

STEP_S = 0.01
CONSTANT: dict[str, Any] = {"kind": "constant", "base_s": STEP_S}


def row(due_s: float, output: int = 3, prompt: int = 10) -> MadeRow:
    """A request that is alone: a step of prefill, then one a token."""
    return (due_s, prompt, output, "", STEP_S, output * STEP_S)


def test_a_server_of_known_steps(write_run: WriteRun) -> None:
    run = validate_run(write_run([row(0.0), row(1.0, output=5)]), CONSTANT)
    assert run.front_end_s == load_profile("0.19").front_end_s
    served = run.served.latencies
    assert served.ttft_s - run.front_end_s == pytest.approx([STEP_S, STEP_S])
    assert served.e2el_s - run.front_end_s == pytest.approx([3 * STEP_S, 5 * STEP_S])
    assert run.figures()["tpot_mean_s"].error_percent == pytest.approx(0.0)
    assert run.figures()["itl_p50_s"].simulated == pytest.approx(STEP_S)
    assert run.later_figures() is None


def test_latencies_from_the_queue(write_run: WriteRun) -> None:
    """The loop looks at its input when a step ends; a loop that waits for requests looks at once."""
    rows = [row(0.0, output=5), row(0.013), row(1.0)]
    sent = validate_run(write_run(rows), CONSTANT)
    queued = validate_run(write_run(rows, latency_from="queued"), CONSTANT)
    assert queued.front_end_s == 0.0
    assert queued.served.latencies.ttft_s == pytest.approx([STEP_S] * 3)
    assert queued.served.latencies.e2el_s == pytest.approx([5 * STEP_S, 3 * STEP_S, 3 * STEP_S])
    late = sent.served.latencies.ttft_s - sent.front_end_s - queued.served.latencies.ttft_s
    assert late == pytest.approx([0.0, 0.007, 0.0])
    assert "latencies count from the engine's queue: no client or server time is added" in queued.notes


def test_the_client_holds_requests_back(write_run: WriteRun) -> None:
    rows = [row(0.0, output=10), row(0.005, output=10)]
    run = validate_run(write_run(rows, client_max_concurrency="1"), CONSTANT)
    served = run.served.latencies
    assert served.due_s.tolist() == [0.0, 0.005]
    assert served.start_s == pytest.approx([0.0, 10 * STEP_S])
    assert run.client_lags_s() == pytest.approx({"measured": 0.0, "simulated": (0.1 - 0.005) / 2})
    # It is sent while the engine goes round its loop, and counts from there.
    assert served.ttft_s[1] - run.front_end_s == pytest.approx(STEP_S)


def test_equal_prompts_hit_the_cache(write_run: WriteRun) -> None:
    rows = [(float(due), 100, 2, "3", STEP_S, 2 * STEP_S) for due in range(3)]
    run = validate_run(write_run(rows), CONSTANT)
    assert run.served.cached_tokens.tolist() == [0, 96, 96]
    without = validate_run(write_run(rows, enable_prefix_caching="false"), CONSTANT)
    assert without.served.cached_tokens.tolist() == [0, 0, 0]


def test_the_simulation_of_its_own_result_is_exact(write_run: WriteRun) -> None:
    """What the simulator gives, written as a measured run, validates without any error."""
    draw = np.random.default_rng(5)
    made = [row(float(due), int(draw.integers(2, 40))) for due in np.sort(draw.uniform(0, 8, 300))]
    served = validate_run(write_run(made), CONSTANT).served.latencies
    exact = [
        (float(due), 10, int(output), "", float(ttft), float(e2el))
        for due, output, ttft, e2el in zip(
            served.due_s, served.output_tokens, served.ttft_s, served.e2el_s, strict=True
        )
    ]
    again = validate_run(write_run(exact), CONSTANT)
    errors = [figure.error_percent for figure in again.figures().values() if figure.measured is not None]
    assert len(errors) == 17
    assert errors == pytest.approx([0.0] * 17, abs=1e-3)
    later = again.later_figures()
    assert later is not None
    assert later["e2el_mean_s"].error_percent == pytest.approx(0.0, abs=1e-3)
    assert set(again.verdicts().values()) == {True, None}
    assert again.deviations()["e2el"].percent == pytest.approx(0.0, abs=1e-3)


def test_json_has_the_documented_shape(write_run: WriteRun) -> None:
    found = json.loads(json.dumps(validate_run(write_run([row(0.0)]), CONSTANT).as_dict()))
    names = [
        f"{metric}_{statistic}_s"
        for metric in ("ttft", "tpot", "itl", "e2el")
        for statistic in ("mean", "p50", "p90", "p95", "p99")
    ]
    assert list(found["metrics"]) == [*names, "output_throughput", "makespan_s"]
    assert all(
        set(figure) == {"measured", "simulated", "error_percent"} for figure in found["metrics"].values()
    )
    assert found["metrics"]["itl_mean_s"]["measured"] is None
    assert (found["run"], found["requests"], found["failed"]) == ("made-up", 1, 0)
    assert found["metrics_without_first_200"] is None
    assert found["verdicts"].keys() == {*names, "output_throughput", "makespan_s", "kolmogorov_e2el"}


def test_what_the_engine_cannot_do_is_told_at_its_key(write_run: WriteRun) -> None:
    folder = write_run([row(0.0)], max_num_seqs="64", max_num_batched_tokens="32")
    with pytest.raises(InputError) as caught:
        validate_run(folder, CONSTANT)
    assert f"{folder}/run.yaml:" in str(caught.value)
    assert "max_num_batched_tokens: 32 is below max_num_seqs" in str(caught.value)


def test_a_run_of_two_data_parallel_ranks_is_simulated(write_run: WriteRun) -> None:
    folder = write_run([row(0.0), row(0.0), row(0.0)], data_parallel_size="2", gpus="2")
    run = validate_run(folder, CONSTANT)
    assert run.served.failed == 0
    assert np.isfinite(run.served.latencies.e2el_s).all()


def test_a_prompt_that_fits_nowhere_is_counted(write_run: WriteRun) -> None:
    run = validate_run(write_run([row(0.0), row(1.0, prompt=400)], max_model_len="100"), CONSTANT)
    assert run.served.failed == 1
    assert np.isnan(run.served.latencies.e2el_s).tolist() == [False, True]


def bench_result(path: Path, **changes: Any) -> Path:
    result = {
        "max_concurrency": None,
        "input_lens": [10, 20, 30],
        "output_lens": [3, 2, 0],
        "ttfts": [0.01, 0.02, 0.0],
        "itls": [[0.01, 0.01], [0.03], []],
        "start_times": [101.0, 100.0, 102.0],
        "errors": ["", "", "boom"],
    }
    path.write_text(json.dumps(result | changes))
    return path


SCENARIO = """
model: llama-3.1-8b
workload: {arrivals: 1/s, prompt_tokens: 1, output_tokens: 1, requests: 1}
pools: {hardware: h100-sxm, engine: {async_scheduling: false}}
cost: {kind: constant, base_s: 0.01}
"""


def test_a_benchmarks_result(tmp_path: Path) -> None:
    run = validate_result(bench_result(tmp_path / "r.json"), load_scenario(SCENARIO))
    assert run.measured.prompt_tokens.tolist() == [20, 10]
    assert run.measured.latencies.e2el_s == pytest.approx([0.05, 0.03])
    assert run.served.latencies.tpot_s == pytest.approx([0.01, 0.01])
    figures = run.figures()
    assert figures["itl_mean_s"].measured == pytest.approx(0.05 / 3)
    assert figures["itl_mean_s"].simulated == pytest.approx(0.01)
    assert "1 requests that failed in the benchmark are left out" in run.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ttfts": None}, "ttfts is null; expected a list; save the result with --save-detailed"),
        ({"itls": [[], []]}, "expected 3 entries, as many as start_times"),
        ({"ttfts": ["a", 1, 1]}, "expected seconds, at least 0, found 'a'"),
        ({"errors": ["x", "x", "x"]}, "no request of the benchmark completed"),
    ],
)
def test_results_that_are_none(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = bench_result(tmp_path / "r.json", **changes)
    with pytest.raises(InputError, match=message):
        validate_result(path, load_scenario(SCENARIO))


# Bounds on the errors of means in percent: TPOT, E2EL, TTFT, output throughput; what is reached stands in
# docs/background/fidelity.md. Below saturation throughput follows from the arrivals.
BOUNDS = {
    "h100-qwen3-14b-agg_2rps": (5.0, 6.0, 15.0, 1.0),
    "h100-qwen3-14b-agg_6rps": (5.0, 6.0, 15.0, 1.0),
    "h100-qwen3-14b-w7_sweep-agg6": (5.0, 6.0, 15.0, 1.0),
    "h100-qwen3-14b-w5_sweep-agg18": (5.0, 6.0, 15.0, 5.0),
    "h100-llama-2-7b-tp1-roleplay": (6.0, 6.0, 20.0, 1.0),
    "h100-llama-2-70b-tp4-codegen": (6.0, 6.0, 20.0, 1.0),
    "h100-codellama-34b-tp2-general": (6.0, 6.0, 20.0, 1.0),
    "h100-mixtral-8x7b-tp2-codegen": (6.0, 6.0, 20.0, 1.0),
    "rtxpro6000-llama-3.1-8b": (2.0, 2.5, 5.0, 2.5),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_real_servers(data_dir: Path, name: str) -> None:
    run = validate_run(data_dir / "e2e" / name)
    figures = run.figures()
    metrics = ("tpot_mean_s", "e2el_mean_s", "ttft_mean_s", "output_throughput")
    errors = {metric: figures[metric].error_percent or 0.0 for metric in metrics}
    assert run.served.failed == 0
    assert all(abs(errors[metric]) < bound for metric, bound in zip(metrics, BOUNDS[name], strict=True)), (
        errors
    )


def test_prompts_of_a_real_trace_share_their_beginnings(data_dir: Path) -> None:
    run = validate_run(data_dir / "e2e" / "rtxpro6000-llama-3.1-8b")
    assert 0.05 < run.served.cached_tokens.sum() / run.measured.prompt_tokens.sum() < 0.2
