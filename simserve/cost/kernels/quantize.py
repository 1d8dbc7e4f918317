"""Quantise kernels of activations, form Q1: a pass over tokens x width elements."""

from __future__ import annotations

import numpy as np

from simserve.cost.kernels.form import Array, Constants, Device, Parameter, Shapes

# Read 16 bits of each element, write 8.
PASS_BYTES = 3.0
# How sharply the L2 cache stops helping as the pass outgrows it.
_L2_SHARPNESS = 4


class QuantizeForm:
    """Seconds of one quantise pass: `overhead + width * element_s + bytes / rate`.

    Shape columns: tokens, width (elements of a token), element_bytes (read and written of each element).
    """

    name = "Q1"
    parameters = (
        Parameter("overhead_s", 1e-8, 1e-4, 2e-6),
        Parameter("bandwidth_efficiency", 0.02, 1.0, 0.6),
        # A row is read by one block: seconds for each element of it, which many rows do not hide.
        Parameter("element_s", 1e-13, 1e-8, 1e-11),
        # Benchmarks: size up to which the rows stay in the L2 cache as a share of it, and what that gains.
        Parameter("l2_share", 0.01, 3.0, 0.5),
        Parameter("l2_speedup", 1.0, 6.0, 2.0),
    )

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        moved = self._moved_bytes(shapes)
        memory = moved / (constants["bandwidth_efficiency"] * device.bytes_per_s)
        if warm:
            held = max(constants["l2_share"] * device.l2_bytes, 1.0)
            hits = 1 / (1 + (moved / held) ** _L2_SHARPNESS)
            memory = memory * (1 - hits + hits / constants["l2_speedup"])
        return np.asarray(constants["overhead_s"] + constants["element_s"] * shapes["width"] + memory)

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """Least seconds that the memory's peak allows with cold caches, a row."""
        return self._moved_bytes(shapes) / device.bytes_per_s

    @staticmethod
    def _moved_bytes(shapes: Shapes) -> Array:
        return shapes["tokens"] * shapes["width"] * shapes["element_bytes"]
