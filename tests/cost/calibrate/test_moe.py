"""Tables of experts and of grouped GEMMs: what their columns mean, and models that were not fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.cost.calibrate.fitting import fit_constants, shape_columns
from simserve.cost.calibrate.grouped_gemm import GroupedGemmFamily
from simserve.cost.calibrate.moe import MoeFamily, kernel_kind
from simserve.cost.calibrate.tables import read_table
from simserve.cost.calibrate.validation import measure_errors
from simserve.cost.fitted_kernel import describe_device
from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware

TRITON = "vllm_unquantizedfusedmoe_triton_tritonexperts"
ROW = {
    "hardware": "h100_sxm", "framework": "vllm", "kernel_source": TRITON, "dtype": "bfloat16",
    "num_tokens": 4, "hidden_size": 2048, "inter_size": 768, "topk": 8, "num_experts": 128,
    "moe_tp_size": 1, "moe_ep_size": 2,
    "distribution": "balanced", "time_us": 100.0,
}  # fmt: skip


def rows_of(**changed: object) -> pd.DataFrame:
    return MoeFamily().rows("moe", pd.DataFrame([{**ROW, **changed}]))


def test_a_row_says_what_its_kernel_meets() -> None:
    row = rows_of().iloc[0]
    assert (row["op"], row["variant"], row["shape"]) == (f"moe/{TRITON}", "triton", "2048x768k8e128")
    assert (row["activated"], row["picks"], row["padded16"]) == pytest.approx((16, 16, 256))
    assert row["seconds"] == pytest.approx(100e-6)
    assert row["gated"] == 1.0
    assert rows_of(topk=22, num_experts=512).iloc[0]["gated"] == 0.0
    assert rows_of(distribution="power_law_1.2").iloc[0]["skew"] == 1.2


def test_measured_activated_experts_are_used() -> None:
    table = pd.DataFrame([{**ROW, "moe_ep_size": 1, "activated_experts": 10}])
    row = MoeFamily().rows("moe", table).iloc[0]
    assert (row["activated"], row["picks"]) == (10, 32)
    assert row["padded8"] == 80


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"distribution": "zipf"}, "power_law_EXPONENT"),
        ({"moe_ep_size": 3}, "multiple of moe_ep_size"),
        ({"topk": 0}, "topk: expected a number of at least 1"),
        ({"time_us": 0.0}, "time_us"),
    ],
)
def test_wrong_rows_are_named(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows_of(**changed)


def test_kinds_of_kernels_are_told_by_their_names() -> None:
    assert kernel_kind("vllm_fp8moe_flashinfer_trtllm_trtllmfp8expertsmonolithic") == "trtllm"
    assert kernel_kind("vllm_fp8moe_flashinfer_cutlass_flashinferexperts") == "cutlass"
    assert kernel_kind("moe_torch_flow_nongated") == "cutlass_nongated"
    assert kernel_kind("vllm fused_moe triton") == "triton"
    assert kernel_kind("something new") == "other"


def test_serving_takes_the_kernels_that_the_engine_would() -> None:
    family = MoeFamily()
    assert family.alternatives("", {"cutlass", "triton"}) == ["triton", "cutlass"]
    assert family.alternatives("xpu", {"marlin", "trtllm"}) == ["trtllm", "marlin"]


@pytest.mark.parametrize(
    ("hardware", "dtype", "variant"),
    [("h100_sxm", "bfloat16", "triton"), ("b200_sxm", "fp8", "trtllm")],
)
def test_experts_of_models_not_fitted_are_within_the_target(
    data_dir: Path, hardware: str, dtype: str, variant: str
) -> None:
    table = read_table(data_dir / "kernels" / "moe.parquet").frame
    mine = (table["hardware"] == hardware) & (table["framework"] == "vllm") & (table["dtype"] == dtype)
    # Two sizes of expert parallelism: each takes load tables of its own.
    mine &= table["moe_ep_size"].isin([1, 8])
    family = MoeFamily()
    rows = family.rows("moe", table[mine].iloc[::2].reset_index(drop=True))
    rows = rows[rows["variant"] == variant]
    device = describe_device(load_hardware(hardware), family.compute_dtype(dtype, ""))
    unseen = rows["shape"].isin(["4096x2048k8e256", "2048x512k8e256"]).to_numpy()
    constants = fit_constants(family.form(variant), rows[~unseen], device, start=family.generic(variant))
    predicted = family.form(variant).seconds(shape_columns(rows[unseen]), constants, device, warm=True)
    error = measure_errors(predicted, rows[unseen]["seconds"].to_numpy(np.float64))
    assert error.mape < 15.0
    assert error.median_ape < 10.0


def test_a_grouped_gemm_is_one_matrix_an_expert() -> None:
    table = pd.DataFrame(
        {
            "hardware": "h20", "framework": "deepgemm", "dtype": "fp8_block", "phase": "decode",
            "op": ["up_proj", "down_proj"], "num_local_experts": 4, "hidden_size": 2048,
            "intermediate_size": 768, "tokens_per_expert": 10, "time_us": 20.0,
        }
    )  # fmt: skip
    rows = GroupedGemmFamily().rows("grouped_gemm", table)
    assert rows[["columns", "depth"]].to_numpy().tolist() == [[1536, 2048], [2048, 768]]
    assert rows["picks"].tolist() == [40, 40]
    assert rows["padded16"].tolist() == [64, 64]
    assert rows["op"].tolist() == ["grouped_gemm/up_proj", "grouped_gemm/down_proj"]
