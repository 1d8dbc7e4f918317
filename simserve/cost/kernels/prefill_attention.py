"""Prefill attention, form P3: query tiles as CTAs, waves, the longest CTA, causal work, history, windows."""

from __future__ import annotations

import numpy as np

from simserve.cost.kernels.attention import (
    KV_ELEMENT_BYTES,
    QUERY_BYTES,
    generation_order,
    kv_element_bytes,
    l2_hit_share,
)
from simserve.cost.kernels.flash_tile import DEFAULT_TILE, Tile
from simserve.cost.kernels.form import Array, Constants, Device, Parameter, Shapes, smooth_maximum

# A thread block of vLLM's reshape_and_cache_flash writes one token's keys and values with at most so many
# threads, of which a multiprocessor holds 2048.
_WRITER_THREADS = 512.0
_THREADS = 2048.0
# How suddenly a benchmark's data leave the L2 cache.
_L2_SHARPNESS = 4.0


def prefill_shapes(
    batch: Array, q_len: Array, kv_prefix: Array, heads: int, kv_heads: int, head_dim: int,
    window: int = 0, kv_dtype: str = "bfloat16",
) -> dict[str, Array]:  # fmt: skip
    """Return the columns that the prefill form takes, of sizes a rank.

    Args:
        batch: Equal chunks in one launch.
        q_len: New tokens of each.
        kv_prefix: History of each, already in the cache.
        heads, kv_heads, head_dim: Of one rank.
        window: Sliding window in tokens; 0: none.
        kv_dtype: Of the KV cache.
    """
    one = np.ones_like(batch, dtype=np.float64)
    return {
        "batch": batch, "q_len": q_len, "kv_prefix": kv_prefix, "heads": heads * one,
        "kv_heads": kv_heads * one,
        "head_dim": head_dim * one, "window": window * one,
        "kv_bytes": KV_ELEMENT_BYTES.get(kv_dtype, QUERY_BYTES) * one,
    }  # fmt: skip


def prefill_variants(window: int = 0, framework: str = "vllm", architecture: str = "") -> tuple[str, ...]:
    """Return the calibration variants that may price a layer, the engine's preferred kernels first."""
    order = generation_order(framework, architecture)
    return tuple(prefill_variant(generation, window, 2.0) for generation in order)


def prefill_variant(generation: str, window: float, q_len: float) -> str:
    """Return a generation with its path; a call with one token a sequence runs other kernels."""
    if q_len <= 1:
        return generation + "/one"
    return generation + ("/window" if window > 0 else "")


class PrefillAttentionForm:
    """One launch of causal attention over equal chunks, with the write of their keys and values to the cache.

    t = overhead + pmax(max(waves x mean CTA, longest CTA), memory, L2) + cache write. A CTA holds a tile of
    query rows and goes through all keys up to its last row, within the window; a key costs it the smooth
    maximum of the tensor cores' 4 x head_dim operations a row and of the softmax's. Shape columns: as of
    `prefill_shapes`.
    """

    name = "P3"
    parameters: tuple[Parameter, ...] = (
        Parameter("overhead_s", 1e-6, 3e-5, 8e-6),
        Parameter("compute_efficiency", 0.1, 1.0, 0.85),
        # Softmax of one key and one row, as operations of the tensor cores.
        Parameter("softmax_flops", 1.0, 3000.0, 350.0),
        Parameter("cta_s", 1e-7, 1e-5, 2.5e-6),
        # Share of the time that the last, partly filled wave leaves multiprocessors idle.
        Parameter("wave_share", 0.0, 1.0, 0.7),
        # Exponent of the smooth maximum of all waves and the longest CTA.
        Parameter("longest_p", 1.0, 20.0, 6.0),
        Parameter("bandwidth_efficiency", 0.1, 1.0, 0.75),
        # Benchmarks: what the L2 cache gains, and up to which share of its size.
        Parameter("l2_speedup", 1.0, 10.0, 2.0),
        Parameter("l2_share", 0.1, 3.0, 0.5),
        # Bandwidth of the L2 cache over the memory's, for the tiles' re-reading of keys and values.
        Parameter("reread_speedup", 1.0, 30.0, 6.0),
        Parameter("p", 1.0, 10.0, 1.8),
        # Keys beyond the last row that a tile goes through, since blocks of keys are whole.
        Parameter("key_margin", 0.0, 256.0, 64.0),
        # The write of new keys and values: this on its time, and latency of one token's thread block.
        Parameter("write_share", 0.01, 6.0, 1.0),
        Parameter("write_s", 1e-8, 1e-5, 1e-6),
        Parameter("write_width_exponent", -2.0, 2.0, 0.5),
    )

    def __init__(self, tile: Tile = DEFAULT_TILE, largest_overhead_s: float | None = None) -> None:
        """Choose how the kernel cuts its work, and allow for slow launches.

        Other tiles than a generation's answer "what if".
        """
        self.tile = tile
        if largest_overhead_s is not None:
            first, *others = PrefillAttentionForm.parameters
            self.parameters = (first._replace(high=largest_overhead_s), *others)

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        bandwidth = constants["bandwidth_efficiency"] * device.bytes_per_s
        compute, reread = self._tiles(shapes, constants, device)
        moved = query_bytes(shapes) + read_bytes(shapes)
        memory = moved / bandwidth * self._kept(moved, constants, device, warm)
        busy = smooth_maximum(compute, memory, constants["p"])
        busy = smooth_maximum(
            busy, reread / (constants["reread_speedup"] * device.bytes_per_s), constants["p"]
        )
        total = constants["overhead_s"] + busy + self._write(shapes, constants, device, warm)
        return total if warm else np.maximum(total, self.bound_seconds(shapes, device))

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """What the physical peaks allow with cold caches."""
        keys = visible_keys(shapes["q_len"], shapes["kv_prefix"], shapes["window"])
        flops = 4 * shapes["batch"] * shapes["heads"] * shapes["head_dim"] * keys
        moved = query_bytes(shapes) + read_bytes(shapes)
        return np.asarray(np.maximum(flops / device.flops_per_s, moved / device.bytes_per_s))

    def _tiles(self, shapes: Shapes, constants: Constants, device: Device) -> tuple[Array, Array]:
        """Seconds of all CTAs, and bytes of keys and values that they take from the L2 cache."""
        width, batch, shared = shapes["head_dim"], shapes["batch"], shapes["heads"] / shapes["kv_heads"]
        tile_rows = self.tile.fitted_rows(width, QUERY_BYTES, device.sram_bytes)
        rows = np.maximum(tile_rows / shared, 1.0) if self.tile.packs else tile_rows
        columns = batch * (shapes["kv_heads"] if self.tile.packs else shapes["heads"])
        tiles, keys, longest = tile_keys(shapes["q_len"], shapes["kv_prefix"], shapes["window"], rows)
        margin = constants["key_margin"] / 2
        keys, longest = keys + tiles * margin, longest + margin
        cores = 4 * width / constants["compute_efficiency"]
        a_key = tile_rows * np.hypot(cores, constants["softmax_flops"]) * device.sms / device.flops_per_s
        mean = constants["cta_s"] + keys / tiles * a_key
        units = columns * tiles / device.sms
        share = constants["wave_share"]
        waves = share * np.ceil(units) + (1 - share) * np.maximum(units, 1.0)
        compute = smooth_maximum(waves * mean, constants["cta_s"] + longest * a_key, constants["longest_p"])
        return compute, columns * keys * 2 * width * kv_element_bytes(shapes)

    @staticmethod
    def _write(shapes: Shapes, constants: Constants, device: Device, warm: bool) -> Array:
        """Seconds of writing the new keys and values to the cache: bytes, or one thread block a token."""
        elements = shapes["kv_heads"] * shapes["head_dim"]
        tokens = shapes["batch"] * shapes["q_len"]
        moved = tokens * 2 * elements * (QUERY_BYTES + kv_element_bytes(shapes))
        bandwidth = constants["bandwidth_efficiency"] * device.bytes_per_s
        kept = PrefillAttentionForm._kept(moved, constants, device, warm)
        threads = np.minimum(elements, _WRITER_THREADS) / _THREADS
        slow = (128.0 / shapes["head_dim"]) ** constants["write_width_exponent"] * constants["write_s"]
        blocks = tokens * threads / device.sms * slow
        return constants["write_share"] * smooth_maximum(moved / bandwidth * kept, blocks, 3.0)

    @staticmethod
    def _kept(moved: Array, constants: Constants, device: Device, warm: bool) -> Array:
        """Factor on the memory's time, of data that a benchmark finds in the L2 cache."""
        if not warm:
            return np.ones_like(moved)
        hits = l2_hit_share(moved, device, constants["l2_share"], _L2_SHARPNESS)
        return 1 + (1 / constants["l2_speedup"] - 1) * hits


def tile_keys(q_len: Array, kv_prefix: Array, window: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Return a chunk's tiles, the keys that all of them go through, and those of the longest.

    Tile i ends with row min(i x rows, q_len), and sees the history and the rows up to there, within the
    window.
    """
    tiles = np.ceil(q_len / rows)
    limit = np.where(window > 0, window + rows, np.inf)
    whole = np.clip(np.floor((np.where(window > 0, limit, 1e15) - kv_prefix) / rows), 0.0, tiles)
    keys = whole * kv_prefix + rows * whole * (whole + 1) / 2
    keys = keys - np.where(whole >= tiles, tiles * rows - q_len, 0.0)
    capped = np.where(window > 0, np.minimum(limit, kv_prefix + q_len), 0.0)
    keys = keys + (tiles - whole) * capped
    return tiles, keys, np.minimum(kv_prefix + q_len, limit)


def visible_keys(q_len: Array, kv_prefix: Array, window: Array) -> Array:
    """Return the sum over a chunk's rows of the keys that each sees: history and rows so far, in a window."""
    limit = np.where(window > 0, window, np.inf)
    free = np.clip(np.where(window > 0, limit, 1e15) - kv_prefix, 0.0, q_len)
    growing = free * kv_prefix + free * (free + 1) / 2
    return np.asarray(
        growing + (q_len - free) * np.where(window > 0, np.minimum(limit, kv_prefix + q_len), 0.0)
    )


def query_bytes(shapes: Shapes) -> Array:
    """Return bytes of queries and outputs."""
    return np.asarray(
        2 * QUERY_BYTES * shapes["batch"] * shapes["q_len"] * shapes["heads"] * shapes["head_dim"]
    )


def read_bytes(shapes: Shapes) -> Array:
    """Return bytes of the keys and values that at least one row sees, each once."""
    last = shapes["kv_prefix"] + shapes["q_len"]
    seen = np.where(shapes["window"] > 0, np.minimum(last, shapes["window"] + shapes["q_len"]), last)
    elements = 2 * shapes["batch"] * shapes["kv_heads"] * shapes["head_dim"] * seen
    return np.asarray(elements * kv_element_bytes(shapes))
