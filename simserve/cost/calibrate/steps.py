"""Tables of whole steps: serving runs, Splitwise's iterations, DistServe's fitted coefficients.

They are compared with steps composed from kernels; no constant is fitted to them but those of the host
profiles of the engines of 2023 and 2024.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.cost.calibrate.step_composition import Setup, StepModels, find_shape
from simserve.cost.calibrate.tables import number_column, text_column
from simserve.errors import SimserveError

if TYPE_CHECKING:
    import pandas as pd

    from simserve.cost.kernel_calibration import KernelCalibration

Row = dict[Any, Any]
CalibrationOf = Callable[[str], "KernelCalibration"]
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
        priced = [self._price(row, models) for row in table.to_dict("records")]
        return _result(
            table, priced, seconds, hardware=hardware, framework=framework,
            dtype=precision.where(precision != "", "bfloat16"), op=stem + "/" + model,
        )  # fmt: skip

    def _price(self, row: Row, models: StepModels) -> tuple[float, str, str]:
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
        try:
            model = models.of(setup)
        except SimserveError as error:
            return np.nan, "", str(error)
        if model is None:
            return np.nan, "", "the catalog has no such model"
        # Of one data-parallel rank: the runs' stated concurrency is the batch times the ranks.
        share = max(1, round(_number(batch, 1)))
        scale = _MEAN_LENGTH if _is_inference_max(row) else 1.0
        prompt, output = round(row["isl"] * scale), round(row["osl"] * scale)
        return model.tpot_s(share, prompt, output), model.timer.calibration.tier, ""


class SplitwiseSteps:
    """`step_splitwise`: decode steps of an engine of 2023 (vLLM 0.2 without CUDA graphs)."""

    stems = ("step_splitwise",)

    def rows(self, stem: str, table: pd.DataFrame, calibration_of: CalibrationOf) -> pd.DataFrame:
        """See `StepTable.rows`."""
        models = StepModels(calibration_of)
        priced = [self._price(row, models) for row in table.to_dict("records")]
        return _result(
            table, priced, number_column(table, "token_ms", above=True) * 1e-3,
            hardware=text_column(table, "hardware").astype(str), framework="vllm", dtype="float16",
            op=stem + "/" + text_column(table, "model").astype(str),
        )  # fmt: skip

    def _price(self, row: Row, models: StepModels) -> tuple[float, str, str]:
        hardware = str(row["hardware"])
        setup = Setup(
            hardware=hardware.removesuffix("-pcap"), framework="vllm", model=str(row["model"]),
            tensor_parallel_size=int(row["tensor_parallel"]), host="vllm-0.2", fusion="eager",
            host_factor=_host_factor(hardware),
        )  # fmt: skip
        model = models.of(setup)
        if model is None:
            return np.nan, "", "the catalog has no such model"
        context = int(row["prompt_size"]) + int(row["token_size"]) // 2
        reason = "times of the power-capped GPU are made up from the others" if "pcap" in hardware else ""
        return model.decode_s(int(row["batch_size"]), context), model.timer.calibration.tier, reason


# The batch at which DistServe's coefficients are evaluated: tokens of a prompt; decodes, on both sides of
# the fits' threshold of 95 requests, and the context of each.
_PROMPT, _CONTEXT = 512, 512
_DECODES = {"decoding_smallbs": 32, "decoding_largebs": 128}


class DistServeSteps:
    """`step_distserve_fits`: fitted coefficients of steps, evaluated at one typical batch."""

    stems = ("step_distserve_fits",)

    def rows(self, stem: str, table: pd.DataFrame, calibration_of: CalibrationOf) -> pd.DataFrame:
        """See `StepTable.rows`."""
        models = StepModels(calibration_of)
        records = table.to_dict("records")
        return _result(
            table, [self._price(row, models) for row in records],
            np.array([self._measured_s(row) for row in records]),
            hardware=text_column(table, "hardware").astype(str),
            framework=text_column(table, "engine").astype(str), dtype="float16",
            op=stem + "/" + text_column(table, "phase").astype(str),
        )  # fmt: skip

    def _measured_s(self, row: Row) -> float:
        a, b, c = (float(row[name]) for name in ("a_ms", "b_ms_per_token", "c"))
        if row["phase"] == "prefill":
            return (a + b * _PROMPT + c * _PROMPT**2) * 1e-3
        decodes = _DECODES[row["phase"]]
        return (a + b * decodes * _CONTEXT + c * decodes) * 1e-3

    def _price(self, row: Row, models: StepModels) -> tuple[float, str, str]:
        engine, tp = str(row["engine"]), int(row["tp"])
        setup = Setup(
            hardware=str(row["hardware"]), framework=engine, model=str(row["model"]), tensor_parallel_size=tp,
            host="distserve" if engine == "distserve" else "vllm-0.2", fusion="eager",
        )  # fmt: skip
        try:
            model = models.of(setup)
        except SimserveError as error:
            return np.nan, "", str(error)
        if model is None:
            return np.nan, "", "the catalog has no such model"
        seconds = (
            model.prefill_s(_PROMPT)
            if row["phase"] == "prefill"
            else model.decode_s(_DECODES[row["phase"]], _CONTEXT)
        )
        return seconds, model.timer.calibration.tier, ""


def _result(
    table: pd.DataFrame,
    priced: list[tuple[float, str, str]],
    seconds: np.ndarray[tuple[int], np.dtype[np.float64]],
    **columns: Any,
) -> pd.DataFrame:
    import pandas as pd

    predicted, tiers, reasons = (list(part) for part in zip(*priced, strict=True)) if priced else ([], [], [])
    excluded = np.array(reasons, dtype=object)
    return pd.DataFrame(
        {
            "kv_dtype": "", "group": None, "variant": "", "shape": "", **columns, "seconds": seconds,
            "excluded": excluded, "predicted_s": predicted, "tier": tiers,
            "split": np.where(excluded == "", "unseen", "excluded"),
        },
        index=table.index,
    )  # fmt: skip


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


def _host_factor(hardware: str) -> float:
    """Hosts of DGX H100 run the same engine in 0.65 of the time of DGX A100's (kernel study, section 6)."""
    return 0.65 if hardware.startswith("h100") else 1.0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _number(value: Any, default: float) -> float:
    return float(value) if _is_number(value) else default


STEP_TABLES = (SiliconRuns(), SplitwiseSteps(), DistServeSteps())
