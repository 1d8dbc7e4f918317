"""Kernels that only move data (norms, RoPE, activations, additions, embedding, sampling), form W3.

Time is a launch, plus the slower of moving the bytes and of working through the rows, one a thread block: a
row takes what it takes even where there are fewer rows than blocks that fit. Benchmarks that repeat a kernel
find in the L2 cache what it holds of the operands: all of what is smaller than a share of the cache, and of
what is larger a part that lies below that share, since most of it was overwritten before it is read again.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from simserve.cost.kernels.form import Array, Constants, Device, KernelForm, Parameter, Shapes

# How sharply hits fall where operands outgrow their share of the cache.
_CLIFF = 12.0


class ElementwiseForm:
    """Seconds of one launch.

    Shape columns: tokens (rows), bytes (read and written by the launch, all rows), width (elements of a row);
    block_width may stand in its place, 0 where blocks do not follow rows, which then cost nothing beyond
    their bytes.
    """

    name = "W3"
    parameters = (
        # A small kernel inside a CUDA graph takes 1.8 us (whole steps of vLLM on H100 then add up).
        Parameter("overhead_s", 2e-7, 6e-5, 1.8e-6),
        Parameter("bandwidth_efficiency", 0.02, 1.0, 0.8),
        Parameter("row_s", 1e-9, 2e-5, 2e-7),
        Parameter("element_s", 1e-13, 1e-8, 1e-11),
        Parameter("blocks_per_sm", 0.5, 32.0, 4.0),
        Parameter("l2_speedup", 1.0, 8.0, 2.0),
        Parameter("l2_share", 0.02, 3.0, 0.4),
        # Of that share, what is still there of larger operands.
        Parameter("l2_kept", 0.0, 1.0, 1.0),
        Parameter("p", 1.0, 12.0, 3.0),
    )

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        moved = shapes["bytes"]
        transfer_s = moved / (constants["bandwidth_efficiency"] * device.bytes_per_s)
        if warm and device.l2_bytes:
            fits = constants["l2_share"] * device.l2_bytes / np.maximum(moved, 1.0)
            beyond = 1 / (1 + np.minimum(fits, 1e3) ** _CLIFF)
            cached = np.minimum(fits, 1.0) * (1 - beyond * (1 - constants["l2_kept"]))
            transfer_s = transfer_s * (1 - cached + cached / constants["l2_speedup"])
        width = shapes["block_width"] if "block_width" in shapes else shapes["width"]
        a_row = np.where(width > 0, constants["row_s"] + constants["element_s"] * width, 0.0)
        waves = np.maximum(shapes["tokens"] / (device.sms * constants["blocks_per_sm"]), 1.0)
        rows_s, p = waves * a_row, constants["p"]
        busy_s = _norm(transfer_s, rows_s, p)
        return np.asarray(constants["overhead_s"] + busy_s)


def _norm(one: Array, other: Array, p: float) -> Array:
    large = np.maximum(np.maximum(one, other), 1e-15)
    return np.asarray(large * ((one / large) ** p + (other / large) ** p) ** (1 / p))


@cache
def elementwise_form() -> KernelForm:
    """The one form of all of them."""
    return ElementwiseForm()
