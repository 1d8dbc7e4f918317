"""Decode attention of FlashAttention-2, form D3-fa2: packed and split, or every query head for itself."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simserve.cost.kernels.attention import kv_element_bytes
from simserve.cost.kernels.decode_attention import (
    SHARED_PARAMETERS,
    TILE_ROWS,
    Flags,
    cache_bytes,
    cache_hits,
    count_waves,
    cta_bytes_per_s,
    cta_seconds,
    decode_bound_s,
    kept_keys,
    query_bytes,
    spread_over_splits,
)
from simserve.cost.kernels.form import Array, Constants, Device, Parameter, Shapes, smooth_maximum


class Fa2DecodeForm:
    """FlashAttention-2 (before Hopper), through vLLM's paged variable-length call.

    It packs the query heads of a KV head and splits the KV only where query heads share KV heads and there is
    no window; packing copies queries and outputs (where there are several sequences and KV heads). Otherwise
    every query head has a CTA of its own, and a KV head is read once for each of its query heads as soon as
    one head's KV of the batch outgrows the L2 cache (kernel study, finding 3). Shape columns: as of
    `decode_shapes`.
    """

    name = "D3-fa2"
    parameters = (*SHARED_PARAMETERS, Parameter("copy_s", 1e-7, 2e-5, 3e-6))

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        batch, width = shapes["batch"], shapes["head_dim"]
        shared = shapes["heads"] / shapes["kv_heads"]
        packed = (shared > 1) & (shapes["window"] <= 0)
        bandwidth = constants["bandwidth_efficiency"] * device.bytes_per_s
        keys = kept_keys(shapes)
        cta = cta_seconds(shapes, constants)
        a_key = 2 * width * kv_element_bytes(shapes) / cta_bytes_per_s(constants, device)
        tiles = batch * np.where(packed, shapes["kv_heads"] * np.ceil(shared / TILE_ROWS), shapes["heads"])
        block = np.where(width <= 64, 256.0, np.where(width <= 128, 128.0, 64.0))
        if warm:
            spread = self._as_scheduled(tiles, keys, block, cta, a_key, packed, constants, device)
        else:
            spread = spread_over_splits(tiles / device.sms, keys, cta, a_key, constants, packed, block)
        moved = cache_bytes(shapes)
        kept = cache_hits(moved / shapes["kv_heads"], constants, device)
        moved = moved * np.where(packed, 1.0, 1 + (shared - 1) * (1 - kept))
        hits = cache_hits(cache_bytes(shapes), constants, device) if warm else np.zeros_like(moved)
        memory = moved / bandwidth * (hits / constants["l2_speedup"] + 1 - hits)
        queries = query_bytes(shapes) / bandwidth
        copies = packed & (batch > 1) & (shapes["kv_heads"] > 1)
        total = constants["overhead_s"] + smooth_maximum(spread, memory, constants["p"]) + queries
        total = total + np.where(copies, constants["copy_s"] + queries, 0.0)
        return total if warm else np.maximum(total, self.bound_seconds(shapes, device))

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """What the physical peaks allow with cold caches."""
        return decode_bound_s(shapes, device)

    @staticmethod
    def _as_scheduled(
        tiles: Array, keys: Array, block: Array, cta: Array, a_key: Array, packed: Flags,
        constants: Constants, device: Device,
    ) -> Array:  # fmt: skip
        """Seconds with the splits that FlashAttention-2 chooses."""
        blocks = np.ceil(keys / block)
        chosen = flash_splits(tiles.tobytes(), blocks.tobytes(), 2 * device.sms)
        splits = np.where(packed, chosen, 1.0)
        longest = np.minimum(np.ceil(blocks / splits) * block, keys)
        joined = constants["combine_s"] + constants["combine_a_split_s"] * splits
        waves = count_waves(tiles * splits / device.sms, constants)
        return np.asarray(waves * (cta + a_key * longest) + np.where(splits > 1, joined, 0.0))


@lru_cache(maxsize=8)
def flash_splits(tiles: bytes, blocks: bytes, slots: int) -> Array:
    """Return FlashAttention-2's number of splits (num_splits_heuristic): the first that is 85 % efficient.

    Args:
        tiles: Float64 array of CTAs without splits, as bytes (so that a fit's repeated calls are remembered).
        blocks: Float64 array of blocks of keys of each, as bytes.
        slots: Twice the multiprocessors.
    """
    ctas = np.frombuffer(tiles)[:, None]
    whole = np.frombuffer(blocks)[:, None]
    splits = np.arange(1.0, 129.0)[None, :]
    each = np.ceil(whole / splits)
    before = np.concatenate([np.full((len(each), 1), np.inf), each[:, :-1]], axis=1)
    eligible = (each != before) & (splits <= np.minimum(min(128, slots), np.maximum(whole, 1)))
    waves = ctas * splits / slots
    efficiency = np.where(eligible, waves / np.ceil(waves), 0.0)
    good = eligible & (efficiency >= 0.85 * efficiency.max(axis=1, keepdims=True))
    chosen = good.argmax(axis=1) + 1.0
    return np.where(ctas[:, 0] >= 0.8 * slots, 1.0, chosen)
