"""What the kernels of an accelerator achieve: measured constants where there are some, else generic ones.

Tiers: `calibrated` uses GEMM constants fitted on measured kernels of that accelerator
(`hardware/calibration/<name>.yaml`); `generic` applies one set of efficiencies to the datasheet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simserve.cost.collectives import AllReduceConstants
from simserve.cost.kernels.roofline import KernelConstants
from simserve.errors import InputError

# Form G0b of the kernel study (docs/background/step-time.md): 0.7 of the peak, 0.8 of the bandwidth,
# 3 us a kernel.
GENERIC_GEMM = KernelConstants(0.7, 0.8, 3e-6, source="generic efficiency (form G0b)")
# Error of TPOT on 165 measured vLLM steps when every kernel has the generic efficiency: 15 to 20 %.
GENERIC_ERROR_PERCENT = 20.0
# Decode attention, `overhead + KV bytes / bandwidth`: medians of the per-GPU fits on the measured vLLM
# kernels of eight GPUs (2 to 16 queries a KV head, 128 wide; shares 0.76 to 0.89, overhead 8.9 to 18 us).
GENERIC_DECODE_ATTENTION = KernelConstants(0.7, 0.857, 11.7e-6, source="median of eight GPUs (form D1)")
# Prefill attention: share of the peak with `QUERY_PADDING` and `EXTRA_KEYS` counted as work; median of
# the same eight GPUs (0.48 to 0.62; kernels of 100 us or more are then 12 to 20 % off).
GENERIC_PREFILL_ATTENTION = KernelConstants(0.58, 0.857, 0.0, source="median of eight GPUs")
# A query tile of 128 rows is computed whole: on average half a tile too many.
QUERY_PADDING = 64
# Starting and finishing a tile costs as much as this many more keys (fitted with the share above).
EXTRA_KEYS = 256
# A small kernel inside a CUDA graph: 1.8 us (kernel study's whole-step composition, error 5.8 % on H100).
GENERIC_ELEMENTWISE = KernelConstants(1.0, 0.8, 1.8e-6, source="generic elementwise kernel in a CUDA graph")


@dataclass(frozen=True, slots=True)
class CalibrationNote:
    """Which calibration priced the steps, for the reports.

    Attributes:
        tier: "calibrated", "generic", or "given" (times stated by the user).
        source: Where the constants are from.
        error_percent: Stated error; None where there is none to state.
        error_of: What that error is the error of.
    """

    tier: str
    source: str
    error_percent: float | None
    error_of: str

    def summary(self) -> dict[str, str | float | None]:
        """Return the note as the `calibration` entry of summary.json."""
        return {
            "tier": self.tier,
            "source": self.source,
            "error_percent": self.error_percent,
            "error_of": self.error_of,
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """Constants of one accelerator by kernel family; an empty one is all generic.

    Attributes:
        accelerator: Its catalog name.
        gemm: By compute dtype.
        decode_attention: In the form `overhead + bytes / bandwidth`.
        all_reduce: By number of ranks.
    """

    accelerator: str
    gemm: Mapping[str, KernelConstants] = field(default_factory=dict)
    decode_attention: KernelConstants = GENERIC_DECODE_ATTENTION
    all_reduce: Mapping[int, AllReduceConstants] = field(default_factory=dict)

    def gemm_constants(self, dtype: str) -> KernelConstants:
        """Constants of GEMMs in `dtype`; bfloat16 and float16 stand for each other."""
        for candidate in _STAND_INS.get(dtype, (dtype,)):
            if candidate in self.gemm:
                return self.gemm[candidate]
        return GENERIC_GEMM

    def note(self, dtype: str) -> CalibrationNote:
        """Describe the calibration of a model whose GEMMs run in `dtype`."""
        constants = self.gemm_constants(dtype)
        if constants is GENERIC_GEMM:
            source = f"datasheet of {self.accelerator}, {constants.source}"
            return CalibrationNote("generic", source, GENERIC_ERROR_PERCENT, "TPOT of measured GPUs")
        attention = self.decode_attention.source
        source = f"{self.accelerator}, measured GEMMs ({constants.source}); attention: {attention}"
        return CalibrationNote("calibrated", source, constants.error_percent, "the GEMMs it was fitted on")


_STAND_INS = {
    "bfloat16": ("bfloat16", "float16"),
    "float16": ("float16", "bfloat16"),
    "fp8": ("fp8", "fp8_block"),
    "fp8_block": ("fp8_block", "fp8"),
    "fp4": ("nvfp4",),
}


def read_calibration(
    accelerator: str, content: Mapping[str, Any] | None, file: str | None = None
) -> Calibration:
    """Read the mapping of a calibration file.

    Args:
        accelerator: Catalog name, for the note.
        content: `{gemm: {dtype: {form: G2, compute_efficiency, bandwidth_efficiency, overhead_s, p,
            fit_mape_percent}}, all_reduce: {ranks: {one_shot: {latency_s, bytes_per_s}, two_shot, p}},
            attention_decode: {dtype: {form: D1 or D3, ...}}}`, every part optional; None: no file.
        file: Its name, for errors.

    Raises:
        InputError: If a constant is missing or no positive number.
    """
    if not content:
        return Calibration(accelerator)
    reader = _Reader(file)
    return Calibration(
        accelerator=accelerator,
        gemm={
            str(dtype): reader.gemm(entry, f"gemm.{dtype}")
            for dtype, entry in reader.entries(content, "gemm")
        },
        decode_attention=reader.decode_attention(content),
        all_reduce={
            int(ranks): reader.all_reduce(entry, f"all_reduce.{ranks}")
            for ranks, entry in reader.entries(content, "all_reduce")
        },
    )


class _Reader:
    """Reads one calibration file; keeps its name for errors."""

    def __init__(self, file: str | None) -> None:
        self.file = file

    def entries(self, content: Mapping[str, Any], key: str) -> list[tuple[Any, Mapping[str, Any]]]:
        part = content.get(key) or {}
        if not isinstance(part, Mapping) or not all(isinstance(entry, Mapping) for entry in part.values()):
            raise InputError(f"{key}: expected a mapping of mappings, got {part!r}", file=self.file)
        return list(part.items())

    def number(self, entry: Mapping[str, Any], key: str, place: str) -> float:
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise InputError(f"{place}.{key}: expected a number of 0 or more, got {value!r}", file=self.file)
        return float(value)

    def rate(self, entry: Mapping[str, Any], key: str, place: str) -> float:
        value = self.number(entry, key, place)
        if value == 0:
            raise InputError(f"{place}.{key}: expected a positive number, got 0", file=self.file)
        return value

    def gemm(self, entry: Mapping[str, Any], place: str) -> KernelConstants:
        if entry.get("form") != "G2":
            raise InputError(f"{place}.form: expected G2, got {entry.get('form')!r}", file=self.file)
        return KernelConstants(
            compute_efficiency=self.rate(entry, "compute_efficiency", place),
            bandwidth_efficiency=self.rate(entry, "bandwidth_efficiency", place),
            overhead_s=self.number(entry, "overhead_s", place),
            p=self.rate(entry, "p", place),
            error_percent=self.number(entry, "fit_mape_percent", place),
            source=f"form G2, {entry.get('framework', 'unnamed framework')}",
        )

    def decode_attention(self, content: Mapping[str, Any]) -> KernelConstants:
        for dtype, entry in self.entries(content, "attention_decode"):
            place = f"attention_decode.{dtype}"
            generic = GENERIC_DECODE_ATTENTION
            if entry.get("form") == "D1":
                bandwidth = self.rate(entry, "bandwidth_efficiency", place)
                overhead_s, source = self.number(entry, "overhead_s", place), "form D1"
            elif entry.get("form") == "D3":
                # The efficiencies of D3 hold only together with its tile search; its shortest kernel
                # (overhead and one tile) is what D1 has as its overhead.
                bandwidth = generic.bandwidth_efficiency
                source = f"overhead of form D3, else {generic.source}"
                overhead_s = self.number(entry, "overhead_s", place) + self.number(entry, "cta_s", place)
            else:
                form = entry.get("form")
                raise InputError(f"{place}.form: expected D1 or D3, got {form!r}", file=self.file)
            return KernelConstants(generic.compute_efficiency, bandwidth, overhead_s, source=source)
        return GENERIC_DECODE_ATTENTION

    def all_reduce(self, entry: Mapping[str, Any], place: str) -> AllReduceConstants:
        shots = {key: value for key, value in entry.items() if isinstance(value, Mapping)}
        one, two = shots.get("one_shot", {}), shots.get("two_shot", {})
        return AllReduceConstants(
            one_shot_s=self.number(one, "latency_s", f"{place}.one_shot"),
            one_shot_bytes_per_s=self.rate(one, "bytes_per_s", f"{place}.one_shot"),
            two_shot_s=self.number(two, "latency_s", f"{place}.two_shot"),
            two_shot_bytes_per_s=self.rate(two, "bytes_per_s", f"{place}.two_shot"),
            p=self.rate(entry, "p", place),
            error_percent=self.number(entry, "fit_mape_percent", place),
            source="form A3",
        )
