"""Dense GEMMs, form G5: tiles, waves and split-K in closed form, a warm-L2 term, a quantise pass."""

from __future__ import annotations

import numpy as np

from simserve.cost.kernels.form import Array, Constants, Device, Parameter, Shapes, smooth_maximum

# Bytes of an element of the input and of the weight, scales included (nvfp4: an fp8 scale for 16 weights,
# mxfp4: one byte for 32; int4: a 16-bit scale for 128).
ELEMENT_BYTES = {
    "float32": (4.0, 4.0), "float16": (2.0, 2.0), "bfloat16": (2.0, 2.0), "fp8": (1.0, 1.0),
    "fp8_block": (1.0, 1.0), "nvfp4": (0.5625, 0.5625), "mxfp4": (0.53125, 0.53125), "sq": (1.0, 1.0),
    "int8": (1.0, 1.0), "int8_wo": (2.0, 1.0), "int4_wo": (2.0, 0.515625),
}  # fmt: skip
SIXTEEN_BITS = 2.0
# Variant of fits on layers of whole models, as their engine runs them; and what prices serving, best first.
LAYERS = "layers"
SERVING_VARIANTS = (LAYERS, "")
# A CTA computes 128 x 128 outputs, fewer rows where M is small (CUTLASS's and cuBLAS's usual tiles).
_TILE = 128.0
_SMALLEST_TILE_ROWS = 16.0
# How sharply the L2 cache stops helping as what a benchmark touches outgrows it: between its size and a tenth
# more (L40S, bf16, weights of 12 to 100 MB).
_L2_SHARPNESS = 20
# Copies of the weights that a benchmark uses in turn: as many as fill the L2 cache, at most so many.
FILL_CACHE = 0.0
_MOST_COPIES = 5.0


def gemm_shapes(m: Array, n: Array, k: Array, dtype: str, *, quantizes: bool = True) -> dict[str, Array]:
    """Return the columns that `GemmForm` takes.

    Args:
        m: Tokens.
        n: Outputs.
        k: Inputs.
        dtype: Of the operands, as tables spell it.
        quantizes: Whether a pass of its own quantises 16-bit inputs first, as in the measured tables; in
            serving it is mostly fused into the norm or activation before. Of 16-bit inputs: no difference.
    """
    inputs, weights = ELEMENT_BYTES.get(dtype, (SIXTEEN_BITS, SIXTEEN_BITS))
    one = np.ones_like(m, dtype=np.float64)
    passes = float(quantizes and inputs < SIXTEEN_BITS)
    return {
        "m": m, "n": n, "k": k, "input_bytes": inputs * one, "weight_bytes": weights * one,
        "quantizes": passes * one,
    }  # fmt: skip


class GemmForm:
    """Seconds of one GEMM, [m, k] x [k, n].

    A CTA computes a tile; where tiles are fewer than the multiprocessors, K is split among more of them, down
    to `split_k` each. The slowest of arithmetic, operands out of the L2 cache and memory counts, by a smooth
    maximum. Every term ascends with m, n and k. Shape columns: as of `gemm_shapes`; of benchmarks also
    weight_copies, used in turn so that the cache does not hold them (`FILL_CACHE`: as many as fill it).
    """

    name = "G5"
    parameters = (
        Parameter("compute_efficiency", 0.05, 1.0, 0.85),
        Parameter("bandwidth_efficiency", 0.1, 1.0, 0.8),
        Parameter("overhead_s", 1e-7, 1e-4, 2.5e-6),
        # Exponent of the smooth maximum.
        Parameter("p", 1.0, 8.0, 2.5),
        # Share of the time that the last, partly filled wave leaves multiprocessors idle.
        Parameter("wave_share", 0.0, 1.0, 0.2),
        # What starting and finishing a tile costs, as so many more inputs.
        Parameter("prologue_k", 1.0, 3000.0, 100.0),
        # Bandwidth of the L2 cache over that of memory, for tiles' operands.
        Parameter("operand_speedup", 1.0, 30.0, 5.0),
        Parameter("split_k", 32.0, 4096.0, 512.0),
        # Benchmarks: size up to which operands stay in the L2 cache as a share of it, and what that gains.
        Parameter("l2_share", 0.05, 3.0, 1.0),
        Parameter("l2_speedup", 1.0, 6.0, 1.5),
        # A quantise pass: its launch; its bytes are counted.
        Parameter("quantise_s", 1e-7, 3e-5, 2e-6),
    )

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        bandwidth = constants["bandwidth_efficiency"] * device.bytes_per_s
        memory = self._moved_bytes(shapes) / bandwidth
        if warm:
            hits = self._cache_hits(shapes, constants, device)
            memory = memory * (1 - hits + hits / constants["l2_speedup"])
        p = constants["p"]
        compute, operands = self._tile_seconds(shapes, constants, device)
        busy = smooth_maximum(smooth_maximum(compute, operands, p), memory, p)
        quantise_bytes = shapes["m"] * shapes["k"] * (SIXTEEN_BITS + shapes["input_bytes"])
        quantise = constants["quantise_s"] + quantise_bytes / bandwidth
        return busy + constants["overhead_s"] + shapes["quantizes"] * quantise

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """Least seconds that the physical peaks allow with cold caches, a row."""
        flops = 2 * shapes["m"] * shapes["n"] * shapes["k"]
        return np.maximum(flops / device.flops_per_s, self._moved_bytes(shapes) / device.bytes_per_s)

    def _cache_hits(self, shapes: Shapes, constants: Constants, device: Device) -> Array:
        """Share of the operands that a benchmark finds in the L2 cache."""
        weights = shapes["n"] * shapes["k"] * shapes["weight_bytes"]
        filling = np.clip(np.ceil(device.l2_bytes / weights), 1.0, _MOST_COPIES)
        copies = shapes.get("weight_copies", np.ones_like(weights))
        touched = self._moved_bytes(shapes) + (np.where(copies == FILL_CACHE, filling, copies) - 1) * weights
        held = max(constants["l2_share"] * device.l2_bytes, 1.0)
        # Beyond ten times the cache there are no hits; the power would overflow.
        return np.asarray(1 / (1 + np.minimum(touched / held, 10.0) ** _L2_SHARPNESS))

    @staticmethod
    def _moved_bytes(shapes: Shapes) -> Array:
        m, n, k = shapes["m"], shapes["n"], shapes["k"]
        return m * k * shapes["input_bytes"] + n * k * shapes["weight_bytes"] + m * n * SIXTEEN_BITS

    @staticmethod
    def _tile_seconds(shapes: Shapes, constants: Constants, device: Device) -> tuple[Array, Array]:
        """Seconds of the tiles' arithmetic, and of bringing their operands from the L2 cache."""
        m, n, k = shapes["m"], shapes["n"], shapes["k"]
        rows = np.clip(2.0 ** np.ceil(np.log2(m)), _SMALLEST_TILE_ROWS, _TILE)
        tiles = np.ceil(m / rows) * np.ceil(n / _TILE)
        splits = np.maximum(1.0, k / constants["split_k"])
        ctas = np.minimum(tiles * splits, np.maximum(tiles, device.sms))
        waves = np.maximum(ctas / device.sms, 1.0)
        waves = waves + constants["wave_share"] * (np.ceil(waves) - waves)
        inputs = k * tiles / ctas
        one_flops_per_s = constants["compute_efficiency"] * device.flops_per_s / device.sms
        one_bytes_per_s = constants["operand_speedup"] * device.bytes_per_s / device.sms
        compute = waves * 2 * rows * _TILE * (inputs + constants["prologue_k"]) / one_flops_per_s
        tile_bytes = (rows * shapes["input_bytes"] + _TILE * shapes["weight_bytes"]) * inputs
        return compute, waves * tile_bytes / one_bytes_per_s
