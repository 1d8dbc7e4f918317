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
