"""Attention of a prefill chunk and decodes in one launch of FlashAttention-2, form M3: not additive.

As soon as one sequence has more than one query token, the kernel (on GPUs before Hopper) neither packs the
query heads of a KV head nor splits the KV: every head of every decode is a CTA of a whole tile of query rows,
and reads its keys for itself (kernel study, finding 3: 3.7 times the time of the decodes alone). Sums of
contexts count, not maxima (finding 4).
"""

from __future__ import annotations

import numpy as np

from simserve.cost.kernels.attention import QUERY_BYTES, kv_element_bytes, l2_hit_share
from simserve.cost.kernels.form import Array, Constants, Device, KernelForm, Parameter, Shapes, smooth_maximum
from simserve.cost.kernels.prefill_attention import tile_keys, visible_keys

# Rows of a query tile of FlashAttention-2's paged kernel.
_TILE_ROWS = 64.0


def mixed_shapes(
    prefill_chunk: Array,
    kv_prefill: Array,
    n_decode: Array,
    kv_decode: Array,
    heads: int,
    kv_heads: int,
    head_dim: int,
) -> dict[str, Array]:
    """Return the columns that the form takes, of sizes a rank.

    Args:
        prefill_chunk: New tokens of the chunk; 0: none.
        kv_prefill: Its history.
        n_decode: Sequences of one new token.
        kv_decode: Mean context of those.
        heads, kv_heads, head_dim: Of one rank.
    """
    one = np.ones_like(n_decode, dtype=np.float64)
    return {
        "prefill_chunk": prefill_chunk, "kv_prefill": kv_prefill, "n_decode": n_decode,
        "kv_decode": kv_decode,
        "heads": heads * one, "kv_heads": kv_heads * one, "head_dim": head_dim * one,
    }  # fmt: skip


class MixedAttentionForm:
    """One launch over one prefill chunk and decodes. Shape columns: as of `mixed_shapes`."""

    name = "M3"
    parameters = (
        Parameter("overhead_s", 1e-6, 3e-5, 5e-6),
        Parameter("compute_efficiency", 0.1, 1.0, 0.85),
        # Softmax of one key and one row, as operations of the tensor cores.
        Parameter("softmax_flops", 1.0, 3000.0, 300.0),
        Parameter("cta_s", 1e-7, 1e-5, 3e-6),
        # A CTA beyond its sequence's rows: the grid has as many for a decode as for the chunk.
        Parameter("idle_cta_s", 1e-9, 3e-6, 1e-7),
        # Share of the time that the last, partly filled wave leaves multiprocessors idle.
        Parameter("wave_share", 0.0, 1.0, 0.5),
        Parameter("longest_p", 1.0, 20.0, 4.0),
        Parameter("bandwidth_efficiency", 0.3, 1.0, 0.8),
        # The L2 cache: what it gains, up to which share of its size, how suddenly that ends.
        Parameter("l2_speedup", 1.0, 30.0, 4.0),
        Parameter("l2_share", 0.1, 3.0, 1.0),
        Parameter("l2_sharpness", 2.0, 30.0, 8.0),
        # Heads that run side by side read their keys once: multiprocessors over sequences, times this.
        Parameter("side_by_side", 0.05, 5.0, 1.0),
        Parameter("p", 1.0, 10.0, 2.0),
    )

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        compute = self._tiles(shapes, constants, device)
        bandwidth = constants["bandwidth_efficiency"] * device.bytes_per_s
        once = _read_bytes(shapes)
        if warm:
            hits = self._hits(once, constants, device)
            rate = hits / constants["l2_speedup"] + 1 - hits
        else:
            rate = np.ones_like(once)
        memory = once * self._rereads(shapes, constants, device) / bandwidth * rate
        queries = _query_bytes(shapes) / bandwidth
        total = constants["overhead_s"] + smooth_maximum(compute, memory, constants["p"]) + queries
        return total if warm else np.maximum(total, self.bound_seconds(shapes, device))

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """What the physical peaks allow with cold caches."""
        keys = visible_keys(shapes["prefill_chunk"], shapes["kv_prefill"], np.zeros_like(shapes["heads"]))
        keys = keys + shapes["n_decode"] * shapes["kv_decode"]
        flops = 4 * shapes["heads"] * shapes["head_dim"] * keys
        moved = _query_bytes(shapes) + _read_bytes(shapes)
        return np.asarray(np.maximum(flops / device.flops_per_s, moved / device.bytes_per_s))

    def _tiles(self, shapes: Shapes, constants: Constants, device: Device) -> Array:
        """Seconds of all CTAs: those of the chunk, one a head and decode, and the idle ones."""
        heads, width, decodes = shapes["heads"], shapes["head_dim"], shapes["n_decode"]
        none = np.zeros_like(heads)
        tiles, keys, longest = tile_keys(
            shapes["prefill_chunk"], shapes["kv_prefill"], none, np.full_like(heads, _TILE_ROWS)
        )
        longest = np.where(tiles > 0, longest, 0.0)
        cores = 4 * width / constants["compute_efficiency"]
        a_key = _TILE_ROWS * np.hypot(cores, constants["softmax_flops"]) * device.sms / device.flops_per_s
        busy = heads * (tiles + decodes)
        idle = heads * decodes * np.maximum(tiles - 1, 0.0) * constants["idle_cta_s"]
        work = busy * constants["cta_s"] + heads * (keys + decodes * shapes["kv_decode"]) * a_key
        mean = work / np.maximum(busy, 1.0)
        units = busy / device.sms
        share = constants["wave_share"]
        waves = share * np.ceil(units) + (1 - share) * np.maximum(units, 1.0)
        alone = (
            constants["cta_s"] + np.maximum(longest, np.where(decodes > 0, shapes["kv_decode"], 0.0)) * a_key
        )
        return smooth_maximum(waves * mean, alone, constants["longest_p"]) + idle / device.sms

    def _rereads(self, shapes: Shapes, constants: Constants, device: Device) -> Array:
        """How often keys are read: once while one head's fit the L2 cache, else once a query head."""
        shared = shapes["heads"] / shapes["kv_heads"]
        together = np.clip(constants["side_by_side"] * device.sms / (shapes["n_decode"] + 1), 1.0, shared)
        kept = self._hits(_read_bytes(shapes) / shapes["kv_heads"], constants, device)
        return 1 + (shared / together - 1) * (1 - kept)

    @staticmethod
    def _hits(size: Array, constants: Constants, device: Device) -> Array:
        return l2_hit_share(size, device, constants["l2_share"], constants["l2_sharpness"])


class RepeatedForm:
    """Another form's time, as a table has it that measured several launches together."""

    def __init__(self, form: KernelForm) -> None:
        """Repeat a form."""
        self.form = form
        self.name = f"{form.name}-repeated"
        self.parameters = (*form.parameters, Parameter("launches", 1.0, 5.0, 3.0))

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one row; a price of one launch (serving) leaves the number of launches out."""
        once = self.form.seconds(shapes, constants, device, warm=warm)
        return once * constants["launches"] if warm else once


def _read_bytes(shapes: Shapes) -> Array:
    chunk = shapes["prefill_chunk"]
    tokens = np.where(chunk > 0, shapes["kv_prefill"] + chunk, 0.0) + shapes["n_decode"] * shapes["kv_decode"]
    return np.asarray(2 * shapes["kv_heads"] * shapes["head_dim"] * tokens * kv_element_bytes(shapes))


def _query_bytes(shapes: Shapes) -> Array:
    tokens = shapes["prefill_chunk"] + shapes["n_decode"]
    return np.asarray(2 * QUERY_BYTES * tokens * shapes["heads"] * shapes["head_dim"])
