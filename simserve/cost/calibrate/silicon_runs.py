"""Time per output token of serving runs (`e2e_aic_silicon`), and what the runs do not state."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.cost.calibrate.step_composition import Setup, StepModels, find_shape
from simserve.cost.calibrate.step_tables import CalibrationOf, Priced, Row, compared_rows, price_rows
from simserve.cost.calibrate.tables import number_column, text_column

if TYPE_CHECKING:
    import pandas as pd

# How a table's modes of GEMMs are called by the models.
_QUANTIZATIONS = {
    "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4", "int4_wo": "gptq", "int8_wo": "int8_wo", "sq":
    "int8",
}  # fmt: skip
# Formats that a checkpoint is published in and that a table's coarser name may mean.
_SAME_FORMAT = {
    "fp8": ("fp8", "fp8_block"),
    "nvfp4": ("nvfp4", "mxfp4"),
    "fp8_block": ("fp8_block", "fp8"),
    "int4_wo": ("int4_experts",),
}
# Dated runs are InferenceMAX's (github.com/SemiAnalysisAI/InferenceX), which draws lengths evenly from 0.8
# to 1 times the nominal ones (RANDOM_RANGE_RATIO), 0.9 in the mean, and schedules ahead.
_INFERENCE_MAX = re.compile(r"source_file=20\d\d-|db-dump")
_MEAN_LENGTH = 0.9
# Nor do the runs state the KV dtype, but times and queues tell it. Llama-3.1-70B on one B200 would read
# 16-bit KV at 12.6 TB/s, above the peak: 8 bits, as in InferenceMAX's scripts. One H200 ran 32 requests of
# 8,192 + 1,024 tokens without a queue and 46 of 64 by Little's law: room for 8 bits only; but its steps grow
# with the context as with 16-bit kernels (3.75 TB/s of 16 bits on two H200). Two H100 ran 29 of 64: 16 bits.
_FP8_KV_SYSTEMS = ("b200", "gb200", "b300", "gb300")
_FP8_STORED_SYSTEMS = ("h200",)
# vLLM schedules ahead by default since 0.14; the runs that name an older version did not.
_ASYNC_SINCE = (0, 14)


class SiliconRuns:
    """`e2e_aic_silicon`: time per output token of serving runs."""

    stems = ("e2e_aic_silicon",)

    def rows(self, stem: str, table: pd.DataFrame, calibration_of: CalibrationOf) -> pd.DataFrame:
        """See `StepTable.rows`."""
        hardware, framework = (text_column(table, name).astype(str) for name in ("system", "backend"))
        model = text_column(table, "model_path").astype(str)
        precision = text_column(table, "precision", default="").astype(str)
        seconds = number_column(table, "silicon_tpot_ms", missing=np.nan_to_num(0.0)) * 1e-3
        models = StepModels(calibration_of)
        priced = price_rows(table.to_dict("records"), lambda row: self._price(row, models))
        return compared_rows(
            table, priced, seconds, hardware=hardware, framework=framework,
            dtype=precision.where(precision != "", "bfloat16"), op=stem + "/" + model,
        )  # fmt: skip

    def _price(self, row: Row, models: StepModels) -> Priced:
        """Return seconds, the tier, and why a row is left out."""
        batch = row.get("batch_size")
        if row.get("mode") == "disagg" or not _is_number(batch):
            return np.nan, "", "the number of requests in flight is not stated"
        tp, dp, ep = (
            int(_number(row.get(name), 1)) or 1 for name in ("tp_size", "attention_dp_size", "moe_ep_size")
        )
        setup = Setup(
            hardware=str(row["system"]),
            framework=str(row["backend"]),
            model=str(row["model_path"]),
            tensor_parallel_size=tp,
            data_parallel_size=dp,
            expert_parallel=ep > 1,
            quantization=_quantization(row),
            kv_cache_dtype=_kv_cache_dtype(row),
            stored_kv_dtype=_stored_kv_dtype(row),
            host="vllm-0.11" if row["backend"] == "vllm" else "none",
            overlaps=_overlaps(row),
        )
        model = models.of(setup)
        # Of one data-parallel rank: the runs' stated concurrency is the batch times the ranks.
        share = max(1, round(_number(batch, 1)))
        scale = _MEAN_LENGTH if _is_inference_max(row) else 1.0
        prompt, output = round(row["isl"] * scale), round(row["osl"] * scale)
        return model.tpot_s(share, prompt, output), model.timer.calibration.tier, ""


def _quantization(row: Row) -> str:
    """The weights' format: as the run names it, or the checkpoint's own where that is the same, roughly."""
    named = row.get("gemm_quant_mode")
    if not isinstance(named, str):
        return ""
    shape = find_shape(str(row["model_path"]))
    if shape is not None and shape.quantization in _SAME_FORMAT.get(named, ()):
        return str(shape.quantization)
    return _QUANTIZATIONS.get(named, "")


def _kv_cache_dtype(row: Row) -> str:
    eight_bits = _system(row) in _FP8_KV_SYSTEMS and row.get("precision") in ("fp8", "fp4")
    # TensorRT-LLM's runs of quantized checkpoints, and checkpoints that carry scales for an 8-bit KV cache.
    scaled = str(row["model_path"]).startswith("nvidia/") or (
        row["backend"] == "trtllm" and row.get("precision") in ("fp8", "fp4") and _is_inference_max(row)
    )
    return "fp8" if eight_bits or scaled else ""


def _stored_kv_dtype(row: Row) -> str:
    narrow = _system(row) in _FP8_STORED_SYSTEMS and row.get("precision") in ("fp8", "fp4")
    return "fp8" if narrow and _is_inference_max(row) else ""


def _system(row: Row) -> str:
    return str(row["system"]).split("_")[0]


def _is_inference_max(row: Row) -> bool:
    return bool(_INFERENCE_MAX.search(str(row.get("silicon_data_source"))))


def _overlaps(row: Row) -> bool | None:
    """Whether the run's engine schedules ahead: TensorRT-LLM and SGLang do, vLLM by default since 0.14."""
    version = str(row.get("backend_version"))
    if row["backend"] != "vllm" or not version.startswith("0."):
        return None
    numbers = tuple(int(part) for part in version.split(".")[:2])
    return numbers >= _ASYNC_SINCE


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _number(value: Any, default: float) -> float:
    return float(value) if _is_number(value) else default
