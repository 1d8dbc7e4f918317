"""Reports of a run's folder: what other tools read must be what the run says."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from simserve.cli.entry import app
from simserve.report.perfetto import trace_events, write_perfetto
from simserve.report.prometheus import metric_lines
from simserve.report.run_folder import RunFolder
from simserve.report.token_times import gap_counts, token_gaps
from simserve.report.vllm_bench import bench_result, write_vllm_bench
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate
from simserve.study.validate import validate_result

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def made(scenario: str, folder: Path, *overrides: str) -> RunFolder:
    simulate(load_scenario(str(SCENARIOS / scenario), list(overrides))).write(folder)
    return RunFolder.read(folder)


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


def test_a_trace_has_every_step_and_every_request(run: RunFolder) -> None:
    events = list(trace_events(run))
    steps = [event for event in events if event["ph"] == "X"]
    assert sum(event["args"]["steps"] for event in steps) == run.summary["steps"]
    begun = [event for event in events if event["ph"] == "b"]
    ended = [event for event in events if event["ph"] == "e"]
    assert len(begun) == len(ended) == len(run.spans["kind"])
    assert {event["id"] for event in begun} == set(run.requests["request_id"].tolist())
    assert all(e["ts"] >= b["ts"] for b, e in zip(begun, ended, strict=True))
    first = {e["id"]: e["ts"] for e in events if e["ph"] == "f"}
    for row, key in enumerate(run.requests["request_id"].tolist()):
        assert first[key] == pytest.approx(run.requests["first_scheduled_s"][row] * 1e6, abs=1e-3)
        # The arrow ends inside a step of the request's instance.
        mine = [s for s in steps if s["pid"] == run.requests["instance"][row]]
        assert any(s["ts"] - 1 <= first[key] <= s["ts"] + s["dur"] + 1 for s in mine)


def test_a_trace_is_the_same_bytes_each_time(run: RunFolder, tmp_path: Path) -> None:
    one, two = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    write_perfetto(run, one)
    write_perfetto(RunFolder.read(run.path), two)
    assert one.read_bytes() == two.read_bytes()
    assert json.loads(gzip.decompress(one.read_bytes()))["traceEvents"]


SAMPLE = re.compile(r"^(?P<name>[a-z_:0-9]+)\{(?P<labels>[^}]*)\} (?P<value>\S+) (?P<time>\S+)$")


def test_time_series_are_open_metrics(run: RunFolder) -> None:
    lines = list(metric_lines(run))
    assert lines[-1] == "# EOF"
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
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

    assert total("vllm:prompt_tokens_total") == run.summary["total_input_tokens"]
    assert total("vllm:generation_tokens_total") == run.summary["total_output_tokens"]
    assert total("vllm:request_success_total") == 120
    assert total("vllm:time_to_first_token_seconds_count") == 120
    assert total("vllm:time_to_first_token_seconds_sum") == pytest.approx(run.requests["ttft_s"].sum())
    gaps = sum(len(each) for each in token_gaps(run))
    assert total("vllm:inter_token_latency_seconds_count") == gaps
    assert total("vllm:num_requests_running") == 0  # the run is over


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
