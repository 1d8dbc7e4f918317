"""Steps of `cost: {kind: measured}`: measured kernels where there are some, the model elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simserve.cost.build import CostSpec, ExplainableTimer, build_timers
from simserve.cost.operator_time import OperatorTime
from simserve.errors import InputError
from simserve.report.roofline import roofline
from simserve.scenario.catalog import load_calibration, load_generic_calibration, load_hardware, load_model
from simserve.scenario.dump import dump_scenario
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate

LAYERS = 32  # of llama-3.1-8b, whose QKV projection is 6144 x 4096
SLOW = "hardware,framework,dtype,M,N,K,time_us\n" + "".join(
    f"H100,torch,bfloat16,{m},6144,4096,{100 + m / 8}\n" for m in (1, 8, 64, 512)
)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "gemm.csv").write_text(SLOW)
    return folder


def timer(spec: CostSpec) -> ExplainableTimer:
    h100 = load_hardware("h100-sxm")
    (found,) = build_timers(
        spec,
        load_model("llama-3.1-8b"),
        h100,
        calibration=load_calibration(h100),
        generic=load_generic_calibration(),
    )
    return found


def by_name(rows: list[OperatorTime]) -> dict[str, OperatorTime]:
    return {row.operator: row for row in rows}


def test_a_measured_kernel_replaces_its_price_and_no_other(tables: Path) -> None:
    step = (64, 64 * 1024, 0, [], 64)
    computed = timer(CostSpec())
    measured = timer(CostSpec("measured", tables=(str(tables),)))
    plain, rows = by_name(computed.explain(*step)), by_name(measured.explain(*step))
    assert rows["qkv"].seconds == pytest.approx(LAYERS * 108e-6)
    assert (rows["qkv"].tier, rows["qkv"].source) == ("measured", "tables gemm.csv")
    assert {**rows, "qkv": None} == {**plain, "qkv": None}
    delta_s = rows["qkv"].seconds - plain["qkv"].seconds
    assert measured.batch_ns(*step) - computed.batch_ns(*step) == pytest.approx(1e9 * delta_s, abs=2)  # type: ignore[arg-type]
    assert measured.calibration.tier == "measured"
    assert "gemm" in measured.calibration.source or str(tables) in measured.calibration.source


def test_beyond_the_table_the_model_prices_and_steps_never_get_faster(tables: Path) -> None:
    measured = timer(CostSpec("measured", tables=(str(tables),)))
    rows = by_name(measured.explain(2048, 2048 * 16, 0, [], 2048))
    assert rows["qkv"].tier != "measured"
    durations = [measured.decode_ns(batch, 1024 * batch, 0, 1)[0] for batch in range(1, 1024, 13)]
    assert (np.diff(durations) >= 0).all()


def test_a_measurement_faster_than_the_hardware_is_not_believed(tmp_path: Path) -> None:
    """6144 x 4096 weights in 16 bits take 15 us to read at 3.35 TB/s; a warm cache made it 5."""
    (tmp_path / "gemm.csv").write_text(SLOW.replace("108.0", "5.0"))
    rows = by_name(timer(CostSpec("measured", tables=(str(tmp_path),))).explain(64, 64 * 1024, 0, [], 64))
    assert rows["qkv"].seconds >= LAYERS * 2 * 6144 * 4096 / 3.35e12


def test_what_if_needs_a_model_and_not_measurements(tables: Path) -> None:
    spec = CostSpec("measured", tables=(str(tables),))
    found = roofline("llama-3.1-8b", "h100-sxm", batch=64, cost=spec)
    assert {row.operator for row in found.step.rows if row.tier == "measured"} == {"qkv"}
    with pytest.raises(InputError, match="measured times are of the hardware as it is"):
        roofline("llama-3.1-8b", "h100-sxm", batch=64, cost=spec, what_if="flops=2x")


def test_measured_needs_a_source() -> None:
    with pytest.raises(InputError, match="kind measured needs tables, or aic"):
        timer(CostSpec("measured"))


def test_a_scenario_with_tables_beside_it_runs_and_can_be_run_again(tables: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(
        "name: mine\nmodel: llama-3.1-8b\npools: h100-sxm\n"
        "workload: {arrivals: 50, prompt_tokens: 64, output_tokens: 8, requests: 20}\n"
        "cost: {kind: measured, tables: [tables/]}\n"
    )
    loaded = load_scenario(str(scenario))
    summary = simulate(loaded).summary
    assert summary["completed"] == 20
    assert summary["calibration"]["tier"] == "measured"
    again = tmp_path / "elsewhere" / "again.yaml"
    again.parent.mkdir()
    again.write_text(dump_scenario(loaded))
    assert json.dumps(simulate(load_scenario(str(again))).summary["mean_e2el_ms"]) == json.dumps(
        summary["mean_e2el_ms"]
    )


def test_a_scenario_without_a_source_is_refused(tmp_path: Path) -> None:
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(
        "model: llama-3.1-8b\npools: h100-sxm\nworkload: {arrivals: 1, prompt_tokens: 1, output_tokens: 1, "
        "requests: 1}\ncost: measured\n"
    )
    with pytest.raises(InputError, match="measured needs tables, or aic"):
        load_scenario(str(scenario))
