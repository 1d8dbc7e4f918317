"""Reports of a run's folder: what other tools read must be what the run says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from simserve.cli.entry import app
from simserve.metrics.writer import TIME_PARTS
from simserve.report import run_page
from simserve.report.run_folder import RunFolder
from simserve.report.step_figures import step_time
from simserve.report.token_times import gap_counts, token_gaps
from simserve.report.vllm_bench import bench_result, write_vllm_bench
from simserve.scenario.loader import load_scenario
from simserve.study.validate import validate_result
from tests.report.runs import SCENARIOS, made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made("quickstart.yaml", tmp_path_factory.mktemp("run") / "out", "workload.trace.limit=120")


@pytest.mark.parametrize(
    ("scenario", "overrides"),
    [
        ("quickstart.yaml", ["workload.trace.limit=60"]),
        ("static-batching.yaml", ["workload.requests=60"]),
        ("pipeline-parallel.yaml", ["workload.requests=60"]),
        ("kv-pressure.yaml", ["workload.requests=80"]),
        ("speculative.yaml", ["workload.requests=40"]),
    ],
)
def test_counted_gaps_are_the_gaps(tmp_path: Path, scenario: str, overrides: list[str]) -> None:
    run = made(scenario, tmp_path / "out", *overrides)
    values, counts, ends = gap_counts(run)
    assert len(ends) == len(values)
    expected = np.concatenate([np.empty(0), *token_gaps(run)])
    assert len(expected)
    np.testing.assert_array_equal(np.sort(np.repeat(values, counts)), np.sort(expected))


@pytest.mark.parametrize(
    ("scenario", "overrides"),
    [
        ("quickstart.yaml", ["workload.trace.limit=60"]),
        ("pipeline-parallel.yaml", ["workload.requests=60"]),
        ("kv-pressure.yaml", ["workload.requests=80"]),
        ("speculative.yaml", ["workload.requests=40"]),
    ],
)
def test_gaps_between_tokens_add_up_to_the_time_of_decoding(
    tmp_path: Path, scenario: str, overrides: list[str]
) -> None:
    run = made(scenario, tmp_path / "out", *overrides)
    requests = run.requests
    done = requests["status"] == "completed"
    sums = np.array([gaps.sum() for gaps in token_gaps(run)])
    decoding = requests["e2el_s"] - requests["ttft_s"]
    assert done.any()
    np.testing.assert_allclose(sums[done], decoding[done], atol=1e-6)
    counts = np.array([len(gaps) for gaps in token_gaps(run)])
    assert (counts[done] <= requests["output_tokens"][done] - 1).all()
    if scenario != "speculative.yaml":
        assert (counts[done] == requests["output_tokens"][done] - 1).all()


def test_a_benchmarks_result_is_the_run_itself(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    write_vllm_bench(run, path)
    content = json.loads(path.read_text())
    assert content["completed"] == 120 == len(content["start_times"])
    assert content["mean_ttft_ms"] == run.summary["mean_ttft_ms"]
    assert np.mean(content["ttfts"]) * 1e3 == pytest.approx(run.summary["mean_ttft_ms"])
    gaps = np.concatenate([np.array(each) for each in content["itls"]]) * 1e3
    assert gaps.mean() == pytest.approx(run.summary["mean_itl_ms"], rel=1e-6)
    assert np.percentile(gaps, 99) == pytest.approx(run.summary["p99_itl_ms"], rel=1e-6)
    # Read back as a measurement, the same servers give the same latencies, but for the front end's constant.
    again = validate_result(
        path, load_scenario(str(SCENARIOS / "quickstart.yaml"), ["workload.trace.limit=120"])
    )
    tpot = again.figures()["tpot_mean_s"]
    assert tpot.error_percent == pytest.approx(0.0, abs=0.5)


def test_what_did_not_complete_has_no_tokens(run: RunFolder) -> None:
    run.requests["status"][:2] = "failed"
    try:
        content = bench_result(run)
    finally:
        run.requests["status"][:2] = "completed"
    failed = [index for index, error in enumerate(content["errors"]) if error]
    assert len(failed) == 2
    assert all(content["output_lens"][i] == 0 and content["itls"][i] == [] for i in failed)


def test_a_benchmarks_result_has_vllms_peaks(run: RunFolder) -> None:
    content = bench_result(run)
    assert content["endpoint_type"] == content["backend"]
    assert content["rtfx"] == 0.0
    begin = min(content["start_times"])
    seconds = [0] * 1000
    requests = [0] * 1000
    for start, ttft, itl in zip(content["start_times"], content["ttfts"], content["itls"], strict=True):
        at = start + ttft
        seconds[int(at - begin)] += 1
        for gap in itl:
            at += gap
            seconds[int(at - begin)] += 1
        for second in range(int(start - begin), int(at - begin) + 1):
            requests[second] += 1
    assert content["max_output_tokens_per_s"] == max(seconds) > 1
    assert content["max_concurrent_requests"] == max(requests) > 1


def test_a_benchmark_without_completed_requests_has_zeros(tmp_path: Path) -> None:
    run = made(
        "quickstart.yaml", tmp_path / "out", "workload.trace.limit=5", "pools.0.engine.max_model_len=1"
    )
    content = bench_result(run)
    assert content["completed"] == 0
    figures = ("ttft", "tpot", "itl", "e2el")
    names = [f"{kind}_{name}_ms" for name in figures for kind in ("mean", "median", "std", "p99")]
    names += ["request_throughput", "output_throughput", "total_token_throughput"]
    names += ["max_output_tokens_per_s", "max_concurrent_requests"]
    assert {name: content[name] for name in names} == dict.fromkeys(names, 0.0)


def test_the_command_line_writes_all_of_them(run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    files = {
        name: tmp_path / "new" / f"run.{name}" for name in ("html", "perfetto", "prometheus", "vllm-bench")
    }
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    result = CliRunner().invoke(app, ["report", str(run.path), *options])
    assert result.exit_code == 0, result.output
    before = {name: path.read_bytes() for name, path in files.items()}
    assert b"plotly" in before["html"]
    CliRunner().invoke(app, ["report", str(run.path), *options])
    assert {name: path.read_bytes() for name, path in files.items()} == before
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        p.name for p in files.values()
    )


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2 or "holds no run" in str(result.exception)


def test_a_page_says_what_a_folder_of_an_earlier_version_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly")
    run = made("quickstart.yaml", tmp_path / "out", "workload.trace.limit=20")
    monkeypatch.setattr(run_page, "FIGURES", (step_time,))
    run_page.write_run_page(run, tmp_path / "new.html")
    (run.path / TIME_PARTS).unlink()
    run_page.write_run_page(run, tmp_path / "old.html")
    told = "step time: the folder has no time_parts.parquet"
    pages = {name: (tmp_path / f"{name}.html").read_text() for name in ("new", "old")}
    assert [told in pages[name] for name in ("new", "old")] == [False, True]
    assert str(tmp_path) not in pages["old"]
