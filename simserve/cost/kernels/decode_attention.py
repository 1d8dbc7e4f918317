"""Decode attention, form D3: one query token a sequence, KV splits over CTAs, memory by a smooth maximum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simserve.cost.kernels.attention import (
    KV_ELEMENT_BYTES,
    QUERY_BYTES,
    WIDEST_GROUP,
    generation_order,
    kv_element_bytes,
    l2_hit_share,
)
from simserve.cost.kernels.form import Array, Constants, Device, Parameter, Shapes, smooth_maximum

Flags = npt.NDArray[np.bool_]
# KV splits tried; the best counts.
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
# Rows whose splits are compared at a time, so that temporary arrays stay in the processor's cache.
_CHUNK = 500
# Rows of a query tile: query heads of a KV head are packed into it.
TILE_ROWS = 64.0
# FlashAttention-3 schedules at most so many sequences dynamically (its get_scheduler_metadata).
_MANY_SEQUENCES = 992.0

SHARED_PARAMETERS = (
    Parameter("overhead_s", 1e-6, 3e-5, 8e-6),
    Parameter("bandwidth_efficiency", 0.3, 1.0, 0.85),
    # Benchmarks: what the L2 cache gains, up to which share of its size, how suddenly that ends.
    Parameter("l2_speedup", 1.0, 30.0, 2.0),
    Parameter("l2_share", 0.1, 3.0, 0.8),
    Parameter("l2_sharpness", 2.0, 30.0, 8.0),
    # Bandwidth of one CTA alone, over its share of the memory's.
    Parameter("cta_bandwidth", 0.1, 30.0, 3.0),
    Parameter("cta_s", 3e-7, 8e-6, 2.5e-6),
    # Exponent of head_dim / 128 in the cost of a CTA.
    Parameter("cta_width_exponent", -1.0, 2.0, 0.2),
    # Joining the splits' results: a launch, and a little for each split.
    Parameter("combine_s", 1e-7, 2e-5, 2e-6),
    Parameter("combine_a_split_s", 1e-9, 1e-6, 1e-7),
    # Exponent of the smooth maximum.
    Parameter("p", 1.0, 20.0, 2.0),
    # Share of the time that the last, partly filled wave leaves multiprocessors idle.
    Parameter("wave_share", 0.0, 1.0, 0.9),
)


def decode_shapes(
    batch: Array,
    kv_len: Array,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int = 0,
    kv_dtype: str = "bfloat16",
) -> dict[str, Array]:
    """Return the columns that decode forms take, of sizes a rank.

    Args:
        batch: Sequences.
        kv_len: Tokens of context of each, their mean where they differ: what counts is the sum.
        heads, kv_heads, head_dim: Of one rank.
        window: Sliding window in tokens; 0: none.
        kv_dtype: Of the KV cache.
    """
    one = np.ones_like(batch, dtype=np.float64)
    return {
        "batch": batch, "kv_len": kv_len, "heads": heads * one, "kv_heads": kv_heads * one,
        "head_dim": head_dim * one, "window": window * one,
        "kv_bytes": KV_ELEMENT_BYTES.get(kv_dtype, QUERY_BYTES) * one,
    }  # fmt: skip


def decode_variants(
    heads: int, kv_heads: int, window: int = 0, framework: str = "vllm", architecture: str = ""
) -> tuple[str, ...]:
    """Return the calibration variants that may price a layer, the engine's preferred kernels first."""
    order = generation_order(framework, architecture)
    return tuple(decode_variant(generation, heads, kv_heads, window) for generation in order)


def decode_variant(generation: str, heads: float, kv_heads: float, window: float) -> str:
    """Return a generation with its path: FlashAttention-2 packs query heads only where there is no window."""
    shared = heads / kv_heads
    if generation == "fa2" and (shared <= 1 or window > 0):
        return "fa2/unpacked"
    return generation + ("/window" if window > 0 else "") + ("/wide" if shared > WIDEST_GROUP else "")


class SplitDecodeForm:
    """Kernels that pack the query heads of a KV head into one tile and split its KV over CTAs.

    t = overhead + pmax(min over splits s of waves(s) * (cta + keys / s * time a key) + combine(s), KV /
    bandwidth) + queries and outputs. Shape columns: as of `decode_shapes`.
    """

    name = "D3"
    parameters: tuple[Parameter, ...] = (
        *SHARED_PARAMETERS,
        Parameter("cta_a_query_head", 0.0, 0.3, 0.004),
        # Keys beyond the window that are read too, since blocks of keys are whole.
        Parameter("window_margin", 0.0, 200.0, 64.0),
        Parameter("window_s", 0.0, 3e-6, 3e-7),
        # Time that each doubling of the keys beyond 128 adds.
        Parameter("doubling_s", 0.0, 2e-6, 2e-7),
        # Memory reaches its bandwidth only in so much time.
        Parameter("ramp_s", 1e-8, 4e-5, 5e-6),
        # A CTA's cost beyond 992 sequences, in benchmarks (FlashAttention-3); serving does without that gain.
        Parameter("many_sequences", 0.4, 1.2, 1.0),
        # Exponent of head_dim / 128 in the time of a key.
        Parameter("key_width_exponent", 0.0, 2.0, 1.0),
    )

    def __init__(self, largest_overhead_s: float | None = None) -> None:
        """Allow for launches slower than those of NVIDIA's GPUs."""
        if largest_overhead_s is not None:
            first, *others = SplitDecodeForm.parameters
            self.parameters = (first._replace(high=largest_overhead_s), *others)

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        batch, kv_len, width = shapes["batch"], shapes["kv_len"], shapes["head_dim"]
        window, shared = shapes["window"], shapes["heads"] / shapes["kv_heads"]
        windowed = window > 0
        keys = np.where(windowed, np.minimum(kv_len, window + constants["window_margin"]), kv_len)
        bandwidth = constants["bandwidth_efficiency"] * device.bytes_per_s
        cta = cta_seconds(shapes, constants) * (1 + constants["cta_a_query_head"] * shared)
        if warm:
            cta = cta * np.where(batch > _MANY_SEQUENCES, constants["many_sequences"], 1.0)
        cta = cta + np.where(windowed & (kv_len > window), constants["window_s"], 0.0)
        scaled = 128.0 * (width / 128.0) ** constants["key_width_exponent"]
        a_key = 2 * scaled * kv_element_bytes(shapes) / cta_bytes_per_s(constants, device)
        units = batch * shapes["kv_heads"] * np.ceil(shared / TILE_ROWS) / device.sms
        spread = spread_over_splits(units, keys, cta, a_key, constants)
        moved = cache_bytes(shapes)
        memory = moved / bandwidth
        ramp = constants["ramp_s"]
        memory = memory + ramp * memory / (memory + ramp)
        if warm:
            hits = cache_hits(moved, constants, device)
            memory = moved * hits / (bandwidth * constants["l2_speedup"]) + (1 - hits) * memory
        slow = constants["doubling_s"] * np.log2(np.maximum(keys / 128.0, 1.0))
        total = constants["overhead_s"] + slow + smooth_maximum(spread, memory, constants["p"])
        total = total + query_bytes(shapes) / bandwidth
        return total if warm else np.maximum(total, self.bound_seconds(shapes, device))

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """What the physical peaks allow with cold caches."""
        return decode_bound_s(shapes, device)


def spread_over_splits(
    units: Array, keys: Array, cta: Array, a_key: Array, constants: Constants,
    may_split: Flags | None = None, block: Array | float = 1.0,
) -> Array:  # fmt: skip
    """Return the seconds of the best number of KV splits; ascends with units and keys.

    Args:
        units: CTAs without splits, over the multiprocessors.
        keys: Of each.
        cta, a_key: Seconds of a CTA, and of each key in it.
        constants: With combine_s, combine_a_split_s and wave_share.
        may_split: Where splits are possible; None: everywhere.
        block: Keys that a CTA reads at least.
    """
    splits = np.array(SPLITS, dtype=np.float64)[:, None]
    joined = constants["combine_s"] + constants["combine_a_split_s"] * splits[1:]
    blocks = np.broadcast_to(block, units.shape)
    best = np.empty_like(units)
    for start in range(0, len(units), _CHUNK):
        part = slice(start, start + _CHUNK)
        each = np.minimum(np.maximum(keys[part] / splits, blocks[part]), keys[part])
        each = (cta[part] + a_key[part] * each) * count_waves(units[part] * splits, constants)
        each[1:] += joined
        best[part] = each.min(axis=0)
        if may_split is not None:
            best[part] = np.where(may_split[part], best[part], each[0])
    return best


def cache_bytes(shapes: Shapes) -> Array:
    """Return bytes of keys and values that must be read: 2 x batch x KV heads x keys x width x element."""
    keys = kept_keys(shapes)
    elements = 2 * shapes["batch"] * shapes["kv_heads"] * keys * shapes["head_dim"]
    return np.asarray(elements * kv_element_bytes(shapes))


def query_bytes(shapes: Shapes) -> Array:
    """Return bytes of queries and outputs of one token a sequence."""
    return np.asarray(2 * QUERY_BYTES * shapes["batch"] * shapes["heads"] * shapes["head_dim"])


def decode_bound_s(shapes: Shapes, device: Device) -> Array:
    """Return what the physical peaks allow: 4 x batch x heads x keys x width operations, every byte once."""
    flops = 4 * shapes["batch"] * shapes["heads"] * kept_keys(shapes) * shapes["head_dim"]
    moved = cache_bytes(shapes) + query_bytes(shapes)
    return np.asarray(np.maximum(flops / device.flops_per_s, moved / device.bytes_per_s))


def kept_keys(shapes: Shapes) -> Array:
    """Return keys that each sequence's query sees: its context within the window."""
    window, kv_len = shapes["window"], shapes["kv_len"]
    return np.asarray(np.where(window > 0, np.minimum(kv_len, window), kv_len), dtype=np.float64)


def cta_seconds(shapes: Shapes, constants: Constants) -> Array:
    """Return the seconds of a CTA without its keys."""
    return np.asarray(constants["cta_s"] * (shapes["head_dim"] / 128.0) ** constants["cta_width_exponent"])


def cta_bytes_per_s(constants: Constants, device: Device) -> float:
    """Return the bandwidth of one CTA alone."""
    return constants["cta_bandwidth"] * device.bytes_per_s / device.sms


def cache_hits(size: Array, constants: Constants, device: Device) -> Array:
    """Return the share of so many bytes that the L2 cache keeps."""
    return l2_hit_share(size, device, constants["l2_share"], constants["l2_sharpness"])


def count_waves(units: Array, constants: Constants) -> Array:
    """Return waves of CTAs, given CTAs over multiprocessors; a partly filled last one counts in part."""
    share = constants["wave_share"]
    return np.asarray(share * np.ceil(units) + (1 - share) * np.maximum(units, 1.0))
