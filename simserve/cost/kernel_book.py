"""Where kernels are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from simserve.cost.fitted_kernel import FittedKernel


class KernelBook(Protocol):
    """The fits of one accelerator, or measured tables before them."""

    def kernel(
        self,
        family: str,
        dtype: str,
        kv_dtype: str = "",
        variant: str | Sequence[str] = "",
        framework: str = "",
    ) -> FittedKernel:
        """Return what prices a kernel family; see `KernelCalibration.kernel`."""

    def sustained_flops_per_s(self, dtype: str) -> float:
        """Return the rate that a server's GEMMs keep under load, infinite if unknown.

        See `simserve.cost.calibrate.sustained`.
        """
