"""Measured kernel tables of an installed `aiconfigurator-core`, asked through its public interface.

aiconfigurator (NVIDIA, Apache-2.0) interpolates its own tables; here its engine is asked for one operator at
a time: `EngineHandle.for_database` and `evaluate_ops_json` over `build_ops_json` (sdk/operations/README.md
of version 0.12). What it answers from formulas instead of measurements is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from simserve.cost.kernels.form import Array, Shapes
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError, UnknownNameError

BACKENDS = ("vllm", "sglang", "trtllm")
# What the engine calls its answers' sources: measured, or measured with a small analytic part (the context
# attention's rope and KV write). "empirical" ones are formulas.
_MEASURED_SOURCES = ("silicon", "mixed")
# Spellings of its quantisation modes where they differ from the tables'.
_MODES = {"float16": "bfloat16", "half": "bfloat16"}
_MESSAGE_BYTES = 2  # an element of a collective's message, "half"

# Shape columns that a builder reads.
_NEEDED = {
    "gemm": ("m", "n", "k"),
    "decode_attention": ("batch", "kv_len", "heads", "kv_heads", "head_dim"),
    "prefill_attention": ("batch", "q_len", "heads", "kv_heads", "head_dim"),
    "moe": ("tokens", "hidden", "inter", "topk", "experts", "moe_tp", "moe_ep"),
    "all_reduce": ("bytes", "ranks"),
}
_Row = dict[str, float]
# An operator of aiconfigurator and the arguments of its evaluation.
_Query = tuple[Any, dict[str, Any]]


class AicTables:
    """Times from aiconfigurator-core's tables of one accelerator: a `MeasuredSource`."""

    def __init__(self, accelerator: Accelerator, backend: str = "vllm", release: str = "current") -> None:
        """Open the tables.

        Args:
            accelerator: One of its aliases must be aiconfigurator's name of a system (`h100_sxm`).
            backend: Whose kernels: "vllm", "sglang" or "trtllm".
            release: Version of the backend, or aiconfigurator's "current", "previous" or "next".

        Raises:
            InputError: If aiconfigurator-core is not installed, or has no tables of the accelerator.
        """
        if backend not in BACKENDS:
            raise UnknownNameError("aiconfigurator backend", backend, BACKENDS)
        try:
            from aiconfigurator_core.sdk import (
                EngineHandle,
                common,
                engine,
                errors,
                operations,
                perf_database,
            )
        except ImportError as error:
            raise InputError(
                "measured tables need aiconfigurator-core: pip install 'simserve[aic]'"
            ) from error
        names = (accelerator.name, *accelerator.aliases)
        systems = [name for name in names if perf_database.get_version_slots(name, backend)]
        try:
            database = perf_database.get_database(systems[0], backend, release) if systems else None
        except ValueError as error:
            raise InputError(f"aiconfigurator-core: {error}") from error
        if database is None:
            raise InputError(f"aiconfigurator-core has no {backend} tables of {accelerator.name}")
        installed = version("aiconfigurator-core")
        self.name = f"aiconfigurator-core {installed}, {backend} {database.version} on {systems[0]}"
        self._handle = EngineHandle.for_database(database)
        self._write = engine.build_ops_json
        self._build = _Builder(operations, common)
        self._missing = (
            errors.PerfDataNotAvailableError,
            errors.MissingSystemFlopsError,
            errors.InterpolationDataNotAvailableError,
            OverflowError,  # the engine counts in 32 bits
        )

    def seconds(
        self, family: str, dtype: str, kv_dtype: str, variants: Sequence[str], shapes: Shapes
    ) -> Array:
        """Seconds a row; NaN where aiconfigurator has no measurement. See `MeasuredSource`."""
        names = list(shapes)
        columns = np.column_stack([np.asarray(shapes[name], np.float64) for name in names])
        result = np.full(len(columns), np.nan)
        kind = variants[0].split("/")[0] if family == "communication" else family
        builder = self._build.builders.get(kind)
        if builder is None or any(name not in shapes for name in _NEEDED[kind]):
            return result
        for row, values in enumerate(columns.tolist()):
            query = builder(dict(zip(names, values, strict=True)), _mode(dtype), _mode(kv_dtype or dtype))
            if query is not None:
                result[row] = self._evaluate(*query)
        return result

    def _evaluate(self, operator: Any, arguments: dict[str, Any]) -> float:
        try:
            ((_, milliseconds, _, source),) = self._handle.evaluate_ops_json(
                self._write([operator]), **arguments
            )
        except self._missing:
            return float("nan")
        return float(milliseconds) * 1e-3 if source in _MEASURED_SOURCES else float("nan")


def _mode(dtype: str) -> str:
    return _MODES.get(dtype, dtype)


class _Builder:
    """Turns a row of a family's shape columns into an operator of aiconfigurator; None where it has none."""

    def __init__(self, operations: Any, common: Any) -> None:
        self.builders: dict[str, Callable[[_Row, str, str], _Query | None]] = {
            "gemm": self.gemm,
            "decode_attention": self.decode_attention,
            "prefill_attention": self.prefill_attention,
            "moe": self.moe,
            "all_reduce": self.all_reduce,
        }
        self._common = common
        self._gemm = cache(operations.GEMM)
        self._decode = cache(operations.GenerationAttention)
        self._prefill = cache(operations.ContextAttention)
        self._moe = cache(operations.MoE)
        self._all_reduce = cache(operations.CustomAllReduce)

    def gemm(self, row: _Row, dtype: str, kv_dtype: str) -> _Query | None:
        mode = getattr(self._common.GEMMQuantMode, dtype, None)
        if mode is None:
            return None
        operator = self._gemm("gemm", 1, int(row["n"]), int(row["k"]), mode)
        return operator, _tokens(row["m"])

    def decode_attention(self, row: _Row, dtype: str, kv_dtype: str) -> _Query | None:
        kv_mode = getattr(self._common.KVCacheQuantMode, kv_dtype, None)
        if kv_mode is None:
            return None
        window, head_dim = int(row.get("window", 0)), int(row["head_dim"])
        operator = self._decode(
            "attention", 1, int(row["heads"]), int(row["kv_heads"]), kv_mode, window, head_dim
        )
        return operator, {"is_context": False, "batch_size": int(row["batch"]), "s": int(row["kv_len"])}

    def prefill_attention(self, row: _Row, dtype: str, kv_dtype: str) -> _Query | None:
        kv_mode = getattr(self._common.KVCacheQuantMode, kv_dtype, None)
        mode = getattr(self._common.FMHAQuantMode, dtype, None)
        if kv_mode is None or mode is None:
            return None
        window, head_dim = int(row.get("window", 0)), int(row["head_dim"])
        operator = self._prefill(
            "attention", 1, int(row["heads"]), int(row["kv_heads"]), kv_mode, mode, window, head_dim
        )
        arguments = {"is_context": True, "batch_size": int(row["batch"]), "s": int(row["q_len"])}
        return operator, {**arguments, "prefix": int(row.get("kv_prefix", 0))}

    def moe(self, row: _Row, dtype: str, kv_dtype: str) -> _Query | None:
        mode = getattr(self._common.MoEQuantMode, dtype, None)
        if mode is None:
            return None
        routing = f"power_law_{row['skew']:g}" if row.get("skew", 0.0) > 0 else "balanced"
        operator = self._moe(
            "moe", 1, int(row["hidden"]), int(row["inter"]), int(row["topk"]), int(row["experts"]),
            int(row["moe_tp"]), int(row["moe_ep"]), mode, routing, 1,
        )  # fmt: skip
        return operator, _tokens(row["tokens"])

    def all_reduce(self, row: _Row, dtype: str, kv_dtype: str) -> _Query | None:
        if row.get("across"):
            return None
        return self._all_reduce("all_reduce", 1, 1, int(row["ranks"])), _tokens(row["bytes"] / _MESSAGE_BYTES)


def _tokens(rows: float) -> dict[str, Any]:
    return {"is_context": True, "batch_size": 1, "s": 1, "x": max(1, round(rows))}
