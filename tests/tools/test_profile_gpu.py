"""The profiling tool without a GPU: its plan, its timing rules, its tables, and that they can be fitted."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from simserve.cli.calibration import FitOptions, fit_file
from simserve.cost.calibrate.families import families_of
from simserve.cost.calibrate.tables import read_table
from simserve.cost.calibration_file import read_fits
from simserve.scenario.catalog import read_calibration_file
from tools.profile_gpu.__main__ import main
from tools.profile_gpu.clock import CASE_BUDGET_S, FEWEST, MOST, Launch, count_repeats, measure_s
from tools.profile_gpu.launches import Ready
from tools.profile_gpu.plan import GEMM_SHAPES, TOKENS, Case, plan_cases, shapes_of_model
from tools.profile_gpu.profile import Outcome, profile
from tools.profile_gpu.writer import TableWriter

GIB = 2**30
SECONDS_A_CASE = 0.05


def plan(gpus: int = 1, memory_gib: float = 80, dtypes: tuple[str, ...] = ("bfloat16", "fp8")) -> list[Case]:
    return plan_cases(dtypes, memory_gib * GIB, gpus)


def test_every_beginning_of_the_plan_holds_every_table() -> None:
    cases = plan(gpus=8)
    whole = Counter(case.table for case in cases)
    assert set(whole) == {
        "gemm", "attn_decode", "attn_prefill", "attn_mixed", "elementwise", "copy", "comm"
    }  # fmt: skip
    tenth = Counter(case.table for case in cases[: len(cases) // 10])
    for table, count in whole.items():
        assert tenth[table] == pytest.approx(count / 10, abs=2)
    gemms = [case.columns for case in cases if case.table == "gemm"]
    start = gemms[: len(gemms) // 8]
    assert {row["dtype"] for row in start} == {"bfloat16", "fp8"}
    assert min(row["M"] for row in start) <= 2
    assert max(row["M"] for row in start) >= 4096


def test_no_case_is_planned_twice_and_none_is_lost() -> None:
    cases = plan()
    rows = [(case.table, tuple(sorted(case.columns.items()))) for case in cases]
    assert len(set(rows)) == len(rows)
    assert sum(case.table == "gemm" for case in cases) == 2 * len(GEMM_SHAPES) * len(TOKENS)


def test_what_does_not_fit_and_needs_more_gpus_is_left_out() -> None:
    small = plan(memory_gib=8)
    assert not any(case.table == "comm" for case in small)
    assert all(case.operand_bytes < 8 * GIB for case in small)
    assert len(small) < len(plan())
    assert {case.columns["num_gpus"] for case in plan(gpus=4) if case.table == "comm"} == {2, 4}


def test_layers_of_a_model_are_measured_first_of_all_shapes(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    sizes = {"hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128}
    config.write_text(json.dumps({**sizes, "intermediate_size": 17408, "vocab_size": 151936}))
    shapes = shapes_of_model(config, (1, 2))
    assert shapes[:4] == [(7168, 5120), (5120, 5120), (34816, 5120), (5120, 17408)]
    assert (3584, 5120) in shapes, "QKV on each of two ranks"
    cases = plan_cases(("bfloat16",), 80 * GIB, 1, shapes)
    assert set(shapes) <= {(case.columns["N"], case.columns["K"]) for case in cases if case.table == "gemm"}


class FakeClock:
    """A GPU of which each launch says how long it takes; its time passes with every launch."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def times_s(self, launch: Launch, repeats: int) -> list[float]:
        seconds = float(str(launch()))
        self.now_s += SECONDS_A_CASE / 2
        return [3 * seconds, *[seconds] * (repeats - 1)]


class FakeBuilder:
    """Launches that take what a roofline of 800 TFLOP/s and 3 TB/s says; one library cannot run fp8."""

    def build(self, case: Case) -> Iterator[Ready]:
        def prepare() -> Launch:
            if case.columns.get("dtype") == "fp8":
                raise RuntimeError("no fp8 units\nlong trace")
            work = case.columns
            m, n, k = (work[name] for name in "MNK") if case.table == "gemm" else (1, 1, 1)
            seconds = 3e-6 + max(2 * m * n * k / 800e12, 2 * (m * n + n * k + m * k) / 3e12)
            return lambda: seconds

        yield Ready("torch", "fake", prepare)


def run(cases: list[Case], folder: Path, minutes: float) -> tuple[Outcome, TableWriter, FakeClock]:
    from tools.profile_gpu.writer import TableWriter

    clock = FakeClock()
    writer = TableWriter(folder, {"hardware": "h100-sxm", "version": "0"})
    outcome = profile(cases, FakeBuilder(), clock, writer, 60 * minutes, now=lambda: clock.now_s)
    writer.close()
    return outcome, writer, clock


def test_a_run_ends_in_time_and_says_what_is_left(tmp_path: Path) -> None:
    cases = plan(dtypes=("bfloat16",))
    outcome, writer, clock = run(cases, tmp_path, minutes=0.5)
    assert clock.now_s == pytest.approx(30, abs=1)
    assert outcome.measured == sum(writer.rows.values()) == pytest.approx(30 / SECONDS_A_CASE, rel=0.05)
    assert outcome.left == len(cases) - outcome.measured
    assert set(writer.rows) == {case.table for case in cases}, "some of every table"


def test_a_case_that_cannot_run_is_counted_and_the_others_go_on(tmp_path: Path) -> None:
    cases = [case for case in plan() if case.table == "gemm"]
    outcome, _, _ = run(cases, tmp_path, minutes=60)
    assert outcome.skipped == {"gemm, fake: no fp8 units": len(cases) // 2}
    assert outcome.measured == len(cases) // 2


def test_the_median_is_taken_and_repeats_follow_the_time_of_one(tmp_path: Path) -> None:
    assert measure_s(FakeClock(), lambda: 1e-4) == 1e-4
    assert (count_repeats(1.0), count_repeats(1e-7), count_repeats(1e-3)) == (FEWEST, MOST, 30)


def test_the_whole_plan_fits_into_ten_minutes_on_one_gpu() -> None:
    """At its budget for repeats a case, doubled for allocation, compilation and the host."""

    assert 2 * CASE_BUDGET_S * len(plan()) < 600


@pytest.mark.parametrize(
    "table", ["gemm", "attn_decode", "attn_prefill", "attn_mixed", "elementwise", "comm"]
)
def test_the_tables_are_those_that_the_calibration_reads(table: str, tmp_path: Path) -> None:
    families = families_of(table)
    assert families, f"no family reads {table}"
    cases = [case for case in plan(gpus=8, dtypes=("bfloat16",)) if case.table == table][:200]
    run(cases, tmp_path, minutes=60)
    read = read_table(tmp_path / f"{table}.csv")
    rows = [family.rows(table, read.frame) for family in families]
    assert sum(len(part) for part in rows) >= len(cases)
    with (tmp_path / f"{table}.csv").open() as file:
        times = [float(row["time_us"]) * 1e-6 for row in csv.DictReader(file)]
    for part in rows:
        assert part["seconds"].tolist() == pytest.approx([times[index] for index in part.index])
        assert (part["excluded"].astype(str) == "").all()


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--name", "mine", "--out", str(tmp_path / "out")]) == 2
    assert "PyTorch" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_it_writes_can_be_fitted(tmp_path: Path) -> None:
    """The fake GPU is a roofline: the fit finds it to within a few percent on shapes left out."""
    pytest.importorskip("scipy", reason="the extra calibrate is not installed")
    cases = [case for case in plan(dtypes=("bfloat16",)) if case.table == "gemm"]
    run(cases, tmp_path, minutes=60)
    out = tmp_path / "h100.yaml"
    fit_file(str(tmp_path), "h100-sxm", str(out), FitOptions(frozenset(), "2026-01-01", "a fake", None, True))
    (fit,) = read_fits(read_calibration_file(out))
    assert (fit.family, fit.framework, fit.rows) == ("gemm", "torch", len(cases))
    assert fit.error["mape"] < 3
