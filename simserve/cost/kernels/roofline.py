"""Seconds of one kernel from its FLOPs and bytes: a roofline with achieved rates and a launch overhead.

No kernel is ever faster than the hardware: achieved rates are capped at the peaks, and the smooth
maximum of compute and memory time is never below either.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class KernelConstants:
    """What a family of kernels achieves of the hardware's peaks.

    Attributes:
        compute_efficiency, bandwidth_efficiency: Shares of peak FLOP/s and of peak bandwidth.
        overhead_s: Launch, prologue and tail of one kernel.
        p: Exponent of the smooth maximum; inf is the sharp one.
        error_percent: Mean absolute error of the fit; None where nothing was fitted.
        source: Where the constants are from.
    """

    compute_efficiency: float
    bandwidth_efficiency: float
    overhead_s: float
    p: float = inf
    error_percent: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel family on one accelerator, form G2: `p-norm(flops / rate, bytes / bandwidth) + overhead`.

    Attributes:
        flops_per_s, bytes_per_s: Achieved rates, at most the peaks.
        overhead_s: Seconds a launch.
        p: Exponent of the p-norm, at least 1.
    """

    flops_per_s: float
    bytes_per_s: float
    overhead_s: float
    p: float

    def compute_s(self, flops: Array) -> Array:
        """Seconds that the arithmetic alone takes."""
        return flops / self.flops_per_s

    def memory_s(self, moved_bytes: Array) -> Array:
        """Seconds that the memory traffic alone takes."""
        return moved_bytes / self.bytes_per_s

    def seconds(self, flops: Array, moved_bytes: Array) -> Array:
        """Seconds of one launch, elementwise; 0 where there is nothing to do."""
        busy = smooth_maximum(self.compute_s(flops), self.memory_s(moved_bytes), self.p)
        return np.where(busy > 0, busy + self.overhead_s, 0.0)


def build_kernel(constants: KernelConstants, peak_flops_per_s: float, peak_bytes_per_s: float) -> Kernel:
    """Apply constants to an accelerator's peaks.

    A fit can have an efficiency above 1 where its benchmark read weights from a warm L2 cache; in
    serving they are cold, so both are capped at 1, and p at no less than 1 (the sum of both times).
    """
    return Kernel(
        flops_per_s=peak_flops_per_s * min(constants.compute_efficiency, 1.0),
        bytes_per_s=peak_bytes_per_s * min(constants.bandwidth_efficiency, 1.0),
        overhead_s=constants.overhead_s,
        p=max(constants.p, 1.0),
    )


def smooth_maximum(first: Array, second: Array, p: float) -> Array:
    """The p-norm of two non-negative arrays: between their maximum (p = inf) and their sum (p = 1)."""
    high = np.maximum(first, second)
    if p == inf:
        return high
    low = np.minimum(first, second)
    # The larger one is factored out, so that no power under- or overflows.
    ratio = np.divide(low, high, out=np.zeros_like(high), where=high > 0)
    return high * np.power(1.0 + np.power(ratio, p), 1.0 / p)
