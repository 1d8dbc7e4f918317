"""Tables of attention: what their columns mean, and heads that were not fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.cost.calibrate.decode_attention import VIDUR, DecodeAttentionFamily
from simserve.cost.calibrate.family import ROW_COLUMNS, Family
from simserve.cost.calibrate.fitting import fit_constants, shape_columns
from simserve.cost.calibrate.mixed_attention import DECODES, MIXED, SKEW, MixedAttentionFamily
from simserve.cost.calibrate.mla import MlaFamily
from simserve.cost.calibrate.prefill_attention import PrefillAttentionFamily
from simserve.cost.calibrate.tables import read_table
from simserve.cost.calibrate.validation import fold_of, measure_errors
from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernels.attention import generation_of, generation_order, group_of, other_variants
from simserve.cost.kernels.decode_attention import decode_shapes
from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware

FAMILIES: tuple[Family, ...] = (
    DecodeAttentionFamily(),
    PrefillAttentionFamily(),
    MixedAttentionFamily(),
    MlaFamily(),
)
HEADS = {
    "hardware": "l40s", "framework": "vllm", "kernel": "vllm_flash_attn_fa2", "dtype": "bf16",
    "kv_dtype": "bf16",
    "heads": 32, "kv_heads": 8, "head_dim": 128, "window": 0, "time_us": 50.0,
}  # fmt: skip
DECODE = HEADS | {"batch": 4, "kv_len": 1000}
PREFILL = HEADS | {"batch": 2, "q_len": 100, "kv_prefix": 7}
LATENT = {
    "hardware": "h100_sxm", "framework": "vllm", "kernel": "vllm_flash_attn_mla", "dtype": "bfloat16",
    "kv_dtype": "fp8", "phase": "decode", "tp": 8, "batch": 4, "q_len": 1, "kv_prefix": 99, "heads": 16,
    "time_us": 50.0,
}  # fmt: skip


def row_of(family: Family, stem: str, row: dict[str, object], **changed: object) -> pd.Series:
    """The one row that a family makes of one table row."""
    row = {key: value for key, value in {**row, **changed}.items() if value is not None}
    rows = family.rows(stem, pd.DataFrame([row]))
    assert set(ROW_COLUMNS) <= set(rows.columns)
    return rows.iloc[0]


@pytest.mark.parametrize(
    ("changed", "variant", "group"),
    [
        ({}, "fa2", "gqa"),
        ({"window": 128}, "fa2/unpacked", "gqa"),
        ({"kv_heads": 32}, "fa2/unpacked", "mha"),
        ({"kv_heads": 1}, "fa2/wide", "wide"),
        ({"kernel": "vllm_flash_attn_fa3", "window": 64}, "fa3/window", "gqa"),
        ({"kernel": "vllm_flashinfer_trtllmdecode", "heads": 64, "kv_heads": 2}, "trtllm-gen/wide", "wide"),
        ({"kernel": "vllm_flashinfer_fidecode"}, "flashinfer", "gqa"),
        ({"kernel": "vllm_flash_attn"}, "fa2", "gqa"),
        ({"kernel": "vllm_flash_attn", "hardware": "b60"}, "xpu", "gqa"),
        ({"kernel": "a_new_kernel"}, "", "gqa"),
    ],
)
def test_a_kernel_and_its_heads_name_the_path(changed: dict[str, object], variant: str, group: str) -> None:
    row = row_of(FAMILIES[0], "attn_decode", DECODE, **changed)
    assert (row["variant"], row["group"]) == (variant, group)


def test_decode_rows() -> None:
    row = row_of(FAMILIES[0], "attn_decode", DECODE, kv_dtype="fp8", window=None)
    assert (row["op"], row["shape"]) == ("attn_decode/vllm_flash_attn_fa2", "32/8x128w0")
    assert (row["dtype"], row["kv_dtype"], row["kv_bytes"]) == ("bfloat16", "fp8", 1.0)
    one = np.ones(1)
    assert set(decode_shapes(one, one, 32, 8, 128)) <= set(row.index)
    assert row["seconds"] == pytest.approx(50e-6)


def test_prefill_rows_with_one_token_run_other_kernels() -> None:
    family = FAMILIES[1]
    assert row_of(family, "attn_prefill", PREFILL, window=128)["variant"] == "fa2/window"
    assert row_of(family, "attn_prefill", PREFILL, q_len=1)["variant"] == "fa2/one"
    assert row_of(family, "attn_prefill", PREFILL, q_len=1, window=128)["variant"] == "fa2/one/unpacked"


def test_vidur_rows_are_shared_by_phase() -> None:
    common = {"hardware": "a100_sxm", "heads": 32, "kv_heads": 4, "head_dim": 128, "time_us": 9.0}
    table = pd.DataFrame(
        [
            {**common, "batch": 3, "prefill_chunk": 0, "kv_len": 64, "is_prefill": False},
            {**common, "batch": 1, "prefill_chunk": 256, "kv_len": 512, "is_prefill": True},
        ]
    )
    decodes, prefills = (family.rows(VIDUR, table) for family in FAMILIES[:2])
    assert decodes.index.tolist() == [0]
    assert prefills.index.tolist() == [1]
    assert (prefills["q_len"].item(), prefills["kv_prefix"].item()) == (256, 512)
    assert decodes["variant"].item() == "vidur"


def test_mixed_rows_tell_decodes_alone_and_skewed_ones_apart() -> None:
    family = FAMILIES[2]
    common = {
        key: HEADS[key]
        for key in ("hardware", "framework", "dtype", "heads", "kv_heads", "head_dim", "time_us")
    }
    sizes = {"prefill_chunk": 16, "kv_prefill": 5, "n_decode": 3, "kv_decode": 700}
    row = row_of(family, "attn_mixed", common | sizes)
    assert (row["variant"], row["n_decode"], row["kv_len"]) == (MIXED, 3, 700)
    assert row_of(family, "attn_mixed", common | sizes, prefill_chunk=0)["variant"] == DECODES
    skewed = row_of(family, SKEW, common | {"pc": 16, "kp": 5, "n": 3, "kv_mean": 700})
    assert (skewed["variant"], skewed["kv_decode"]) == (MIXED + "/skewed", 700)
    assert family.form(skewed["variant"]).name == "M3-repeated"


@pytest.mark.parametrize(
    ("changed", "variant"),
    [
        ({}, "mla/decode"),
        ({"phase": "prefill", "q_len": 1024}, "mla/prefill"),
        ({"phase": "prefill", "q_len": 512}, "mla/prefill-absorbed"),
        ({"phase": "prefill", "q_len": 512, "kernel": "vllm_flashmla"}, "mla/prefill"),
        ({"phase": "prefill", "framework": "sglang", "kernel": "flash_attention"}, "flash/prefill-absorbed"),
        ({"framework": "trtllm", "kernel": "default"}, "decode"),
        ({"framework": "vllm", "kernel": "vllm_triton_mla"}, "triton/decode"),
    ],
)
def test_latent_rows(changed: dict[str, object], variant: str) -> None:
    row = row_of(FAMILIES[3], "mla", LATENT, **changed)
    assert (row["variant"], row["shape"], row["kv_bytes"]) == (variant, "16of128", 1.0)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_variant_has_a_form_with_generic_constants(family: Family) -> None:
    for variant in (
        "fa2",
        "fa2/unpacked",
        "fa3/window",
        "mla/decode",
        "triton/decode",
        "x/prefill",
        "",
        "vidur",
    ):
        form = family.form(variant)
        generic = family.generic(variant)
        assert [parameter.name for parameter in form.parameters] == list(generic)
        assert all(p.low <= generic[p.name] <= p.high for p in form.parameters)


@pytest.mark.parametrize(
    ("family", "stem", "row", "changed", "message"),
    [
        (FAMILIES[0], "attn_decode", DECODE, {"heads": 0}, "heads: expected a number of at least 1"),
        (FAMILIES[0], "attn_decode", DECODE, {"kv_len": None}, "no column 'kv_len'"),
        (FAMILIES[1], "attn_prefill", PREFILL, {"time_us": 0.0}, "time_us"),
        (FAMILIES[1], VIDUR, PREFILL, {}, "no column 'is_prefill'"),
        (FAMILIES[3], "mla", LATENT, {"phase": None}, "no column 'phase'"),
    ],
)
def test_wrong_tables_are_named(
    family: Family, stem: str, row: dict[str, object], changed: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        row_of(family, stem, row, **changed)


def test_groups_and_orders() -> None:
    assert [group_of(32, kv) for kv in (32, 8, 2, 1)] == ["mha", "gqa", "gqa", "wide"]
    assert generation_of("flashinfer", "sglang", "l40s") == "flashinfer"
    assert generation_order("vllm", "Ada AD104 sm89")[0] == "fa2"
    assert generation_order("vllm", "Hopper sm90")[0] == "fa3"
    assert other_variants("fa3/window", {"triton", "fa3", "fa2/window"}) == ["fa3", "fa2/window", "triton"]


def read_some(data_dir: Path, family: Family, stem: str, **wanted: str) -> pd.DataFrame:
    """Rows of a measured table with the wanted texts."""
    table = read_table(data_dir / "kernels" / f"{stem}.parquet").frame
    attrs = table.attrs
    for column, text in wanted.items():
        table = table[table[column].astype(str) == text]
    table.attrs.update(attrs)
    return family.rows(stem, table)


def error_on_other_heads(family: Family, rows: pd.DataFrame, hardware: str, least_s: float = 0.0) -> float:
    """MAPE on the heads of one half, fitted to some rows of the other half's."""
    device = describe_device(load_hardware(hardware), "bfloat16")
    variant = str(rows["variant"].iloc[0])
    fold, form = fold_of(rows["shape"], 2), family.form(str(rows["variant"].iloc[0]))
    test = rows[(fold == 1) & (rows["seconds"] >= least_s)]
    constants = fit_constants(form, rows[fold == 0], device, family.generic(variant), 800)
    predicted = form.seconds(shape_columns(test), constants, device, warm=True)
    return measure_errors(predicted, test["seconds"].to_numpy(np.float64)).mape


@pytest.mark.parametrize(
    ("hardware", "accelerator", "variant"),
    [("l40s", "l40s", "fa2"), ("h100_sxm", "h100-sxm", "fa3")],
)
def test_decodes_of_other_heads(data_dir: Path, hardware: str, accelerator: str, variant: str) -> None:
    family = FAMILIES[0]
    rows = read_some(
        data_dir, family, "attn_decode", hardware=hardware, framework="vllm", kv_dtype="bfloat16"
    )
    rows = rows[(rows["variant"] == variant) & (rows["group"] == "gqa")]
    assert error_on_other_heads(family, rows, accelerator) < 8


@pytest.mark.parametrize(("hardware", "accelerator", "variant"), [("h100_sxm", "h100-sxm", "fa3")])
def test_prefills_of_other_heads(data_dir: Path, hardware: str, accelerator: str, variant: str) -> None:
    family = FAMILIES[1]
    rows = read_some(
        data_dir, family, "attn_prefill", hardware=hardware, framework="vllm", kv_dtype="bfloat16"
    )
    rows = rows[rows["variant"] == variant]
    assert error_on_other_heads(family, rows, accelerator, least_s=2e-4) < 8


def test_mixed_batches_of_other_heads(data_dir: Path) -> None:
    family = FAMILIES[2]
    rows = read_some(data_dir, family, "attn_mixed", hardware="rtx_pro_6000_server")
    assert error_on_other_heads(family, rows[rows["variant"] == MIXED], "rtx-pro-6000-server") < 11
