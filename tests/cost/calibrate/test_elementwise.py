"""Tables of elementwise kernels: bytes and kinds, and widths that were not fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.cost.calibrate.elementwise import ElementwiseFamily, kind_of
from simserve.cost.calibrate.fitting import fit_constants, shape_columns
from simserve.cost.calibrate.tables import read_table
from simserve.cost.calibrate.validation import measure_errors
from simserve.cost.fitted_kernel import describe_device
from simserve.scenario.catalog import load_hardware

ROW = {
    "hardware": "h100_sxm", "framework": "vllm", "dtype": "bfloat16", "op": "mlp_act", "model": "llama",
    "tokens": 10, "width": 1024, "gated": 1, "time_us": 3.0,
}  # fmt: skip


def rows_of(**changed: object) -> pd.DataFrame:
    return ElementwiseFamily().rows("elementwise", pd.DataFrame([{**ROW, **changed}]))


def test_bytes_follow_from_the_operator() -> None:
    assert rows_of().iloc[0]["bytes"] == 10 * 1024 * 6
    assert rows_of(gated=0).iloc[0]["bytes"] == 10 * 1024 * 4
    assert rows_of(op="add").iloc[0]["bytes"] == 10 * 1024 * 6
    assert rows_of(op="add").iloc[0]["block_width"] == 0
    assert rows_of(op="input_layernorm").iloc[0]["bytes"] == 10 * 1024 * 4


def test_layer_norms_are_told_from_rms_norms_by_the_model() -> None:
    assert rows_of(op="final_layernorm").iloc[0]["variant"] == "final_layernorm"
    assert (
        rows_of(op="final_layernorm", model="microsoft/phi-2").iloc[0]["variant"]
        == "final_layernorm/layer_norm"
    )
    assert kind_of("post_attention_layernorm").name == "norm"
    assert kind_of("anything").name == "other"


@pytest.mark.parametrize(
    ("changed", "width"),
    [
        ({"op": "qk_norm"}, 2048),
        ({"op": "act_fn", "model": "mistralai/Mixtral-8x7B-v0.1"}, 2048),
        ({"op": "act_fn", "model": "Qwen/Qwen3-30B-A3B"}, 2048),
        ({"op": "act_fn", "model": "meta-llama/Llama-3.1-8B"}, 1024),
        ({"op": "layernorm", "model": "mistralai/Mixtral-8x7B-v0.1"}, 1024),
        ({"op": "qk_norm", "source": "own"}, 1024),
    ],
)
def test_one_measurement_for_every_tp_has_the_width_of_tp_1(changed: dict[str, str], width: int) -> None:
    row = rows_of(**{"source": "LLMServingSim-v1", "tp": 2, **changed}).iloc[0]
    assert row["width"] == width
    assert row["shape"] == str(width)


def test_samplers_are_told_apart_by_the_vocabulary() -> None:
    assert rows_of(op="sampler", width=151936).iloc[0]["variant"] == "sampler/151936"


def test_throughputs_are_turned_into_seconds() -> None:
    table = pd.DataFrame(
        {"op": ["softmax"], "hardware": ["A100"], "M": [4096], "N": [64], "gelem_per_s": [2.0]}
    )
    row = ElementwiseFamily().rows("llmcompass_vector_ops", table).iloc[0]
    assert row["seconds"] == pytest.approx(4096 * 64 / 2e9)
    assert (row["framework"], row["op"]) == ("", "llmcompass_vector_ops/softmax")


def test_serving_uses_no_table_of_kernels_launched_one_by_one() -> None:
    family = ElementwiseFamily()
    fitted = {"layernorm", "mlp_act", "final_layernorm"}
    assert family.alternatives("", fitted) == []
    assert family.alternatives("act_fn", fitted) == ["mlp_act", "final_layernorm", "layernorm"]


@pytest.mark.parametrize(
    ("hardware", "op"), [("a100_sxm", "mlp_act"), ("h100_sxm", "attn_rope"), ("a40", "mlp_act")]
)
def test_widths_not_fitted_are_within_the_target(data_dir: Path, hardware: str, op: str) -> None:
    table = read_table(data_dir / "kernels" / "elementwise.parquet").frame
    mine = (table["hardware"] == hardware) & (table["op"] == op)
    family = ElementwiseFamily()
    rows = family.rows("elementwise", table[mine].iloc[::3].reset_index(drop=True))
    device = describe_device(load_hardware(hardware), "bfloat16")
    unseen = rows["width"].isin(sorted(rows["width"].unique())[1::2]).to_numpy()
    constants = fit_constants(family.form(""), rows[~unseen], device, start=family.generic(""))
    test = rows[unseen & (rows["seconds"] >= 10e-6).to_numpy()]
    predicted = family.form("").seconds(shape_columns(test), constants, device, warm=True)
    assert measure_errors(predicted, test["seconds"].to_numpy(np.float64)).mape < 12.0
