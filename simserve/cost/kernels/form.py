"""The contract of a kernel model: a form (a formula with named constants) that turns shapes into seconds.

A form knows the physics of one kernel family; its constants come from a fit (`cost/calibrate`) or from the
generic tier. Forms are pure, vectorised over shapes, and never consult files.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
# Columns of one length that describe the launches, e.g. {"m": ..., "n": ..., "k": ...}.
Shapes = Mapping[str, Array]
Constants = Mapping[str, float]


class Parameter(NamedTuple):
    """A constant that a fit may choose.

    Attributes:
        name: As in the calibration file; seconds end in `_s`, rates in `_per_s`, shares of a peak in
            `_efficiency`.
        low, high: Bounds of the fit.
        start: Where a fit begins, and the value that the generic tier uses unless it states another.
    """

    name: str
    low: float
    high: float
    start: float


class Device(NamedTuple):
    """The accelerator as a kernel sees it, for one dtype of arithmetic.

    Attributes:
        flops_per_s: Dense peak of the dtype that the kernel computes in.
        bytes_per_s: Memory bandwidth, datasheet.
        l2_bytes: Size of the last-level cache; 0 if unknown.
        sms: Streaming multiprocessors (compute units); forms with waves need it, 1 means none are modelled.
        sram_bytes: Shared memory of one of them; 0 if unknown.
        link_bytes_per_s, link_domain: Rate of the scale-up link, a direction, and how many accelerators it
            joins; 1 if there is none.
        pcie_bytes_per_s, network_bytes_per_s: Rate to the host and to other hosts, a direction.
    """

    flops_per_s: float
    bytes_per_s: float
    l2_bytes: float
    sms: int
    sram_bytes: float
    link_bytes_per_s: float = 0.0
    link_domain: int = 1
    pcie_bytes_per_s: float = 0.0
    network_bytes_per_s: float = 0.0


class KernelForm(Protocol):
    """One kernel model."""

    @property
    def name(self) -> str:
        """Short name as in the kernel study, "G4", "D3", ..."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its constants, in the order of the calibration file."""

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row.

        Args:
            shapes: The columns that the form's docstring names.
            constants: A value for each of `parameters`.
            device: Its peaks.
            warm: Predict a benchmark that repeats the kernel, so that operands below the size of the L2 cache
                come from there. Serving is cold (False): no kernel is then faster than the peaks allow.
        """


def smooth_maximum(first: Array, second: Array, p: float) -> Array:
    """The p-norm of two non-negative arrays: between their maximum (p = inf) and their sum (p = 1)."""
    high = np.maximum(first, second)
    if p == inf:
        return high
    low = np.minimum(first, second)
    # The larger one is factored out, so that no power under- or overflows.
    ratio = np.divide(low, high, out=np.zeros_like(high), where=high > 0)
    return high * np.power(1.0 + np.power(ratio, p), 1.0 / p)
