"""Kernels priced from measured times where there are some, and from their fitted form elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.kernel_calibration import STAND_INS, KernelCalibration
from simserve.cost.kernels.form import Array, Shapes
from simserve.cost.kernels.gemm import SIXTEEN_BITS
from simserve.cost.measured.source import MeasuredSource
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError


@dataclass(frozen=True, eq=False)
class MeasuredKernel(FittedKernel):
    """A `FittedKernel` that looks its launches up before it computes them.

    Attributes:
        sources: Of measured times; the first that has a row prices it.
        family, dtype, kv_dtype, variants: What is looked up, the wanted variant first.
    """

    sources: tuple[MeasuredSource, ...] = ()
    family: str = ""
    dtype: str = ""
    kv_dtype: str = ""
    variants: tuple[str, ...] = ("",)

    def seconds(self, shapes: Shapes, warm: bool = False) -> Array:
        """Seconds of one launch a row: measured inside the tables' range, computed outside of it."""
        computed = super().seconds(shapes, warm)
        pass_s = self._quantise_pass_s(shapes, computed, warm)
        for source in reversed(self.sources):
            measured = self._measured(source, shapes)
            computed = np.where(np.isnan(measured), computed, np.maximum(measured - pass_s, 0.0))
        return computed

    def provenance(self, shapes: Shapes) -> tuple[str, str, float | None]:
        """Tier, source and stated error of these rows; "measured" if all of them are."""
        for source in self.sources:
            if not np.isnan(self._measured(source, shapes)).any():
                return "measured", source.name, None
        return self.tier, self.source, self.error_percent

    def _quantise_pass_s(self, shapes: Shapes, computed: Array, warm: bool) -> Array:
        """Seconds of the pass that measured GEMMs of narrow inputs contain and these launches do not."""
        if "quantizes" not in shapes:
            return np.zeros_like(computed)
        fused = (shapes["quantizes"] == 0) & (shapes["input_bytes"] < SIXTEEN_BITS)
        if not fused.any():
            return np.zeros_like(computed)
        whole = super().seconds({**shapes, "quantizes": np.ones_like(computed)}, warm)
        return np.where(fused, whole - computed, 0.0)

    def _measured(self, source: MeasuredSource, shapes: Shapes) -> Array:
        result = np.full(len(next(iter(shapes.values()))), np.nan)
        for kv_dtype in (self.kv_dtype, *_alike(self.kv_dtype)):
            for dtype in (self.dtype, *_alike(self.dtype)):
                if np.isnan(result).any():
                    found = source.seconds(self.family, dtype, kv_dtype, self.variants, shapes)
                    result = np.where(np.isnan(result), found, result)
        return result


def _alike(dtype: str) -> tuple[str, ...]:
    """Return the 16-bit dtype whose kernels take as long; no other stands in for a measurement."""
    return STAND_INS[dtype] if dtype in ("bfloat16", "float16") else ()


class MeasuredCalibration(KernelCalibration):
    """A calibration whose kernels are looked up in measured tables first."""

    def __init__(
        self,
        accelerator: Accelerator,
        sources: Sequence[MeasuredSource],
        content: Mapping[str, Any] | None = None,
        generic: Mapping[str, Any] | None = None,
        file: str | None = None,
    ) -> None:
        """Read the calibration that prices what the sources lack; see `KernelCalibration`."""
        super().__init__(accelerator, content, generic, file)
        self.sources = tuple(sources)
        self._measured: dict[int, MeasuredKernel] = {}

    def kernel(
        self,
        family: str,
        dtype: str,
        kv_dtype: str = "",
        variant: str | Sequence[str] = "",
        framework: str = "",
    ) -> FittedKernel:
        """Return what prices a kernel family; see `KernelCalibration.kernel`."""
        fitted = super().kernel(family, dtype, kv_dtype, variant, framework)
        if id(fitted) not in self._measured:
            known = {entry.name: getattr(fitted, entry.name) for entry in fields(FittedKernel)}
            self._measured[id(fitted)] = MeasuredKernel(
                **known,
                sources=self.sources,
                family=family,
                dtype=dtype,
                kv_dtype=kv_dtype,
                variants=(variant,) if isinstance(variant, str) else tuple(variant),
            )
        return self._measured[id(fitted)]


def find_sources(
    accelerator: Accelerator, tables: Sequence[str], aic: str | None = None
) -> list[MeasuredSource]:
    """Open the sources of a scenario's `cost: {kind: measured}`, the user's own tables first.

    Raises:
        InputError: If there is none, a table is wrong, or aiconfigurator-core is not installed.
    """
    sources: list[MeasuredSource] = []
    if tables:
        from simserve.cost.measured.tables import read_measured_tables

        sources.append(read_measured_tables(map(Path, tables), accelerator))
    if aic is not None:
        from simserve.cost.measured.aic import AicTables

        sources.append(AicTables(accelerator, aic))
    if not sources:
        raise InputError("cost: kind measured needs tables, or aic")
    return sources
