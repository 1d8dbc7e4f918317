"""Multi-head latent attention: absorbed decode over the latent cache, and prefill, absorbed or not.

Absorbed (DeepSeek-V2, section 2.1.2): the up-projections of keys and values move into queries and outputs, so
that all heads share one latent KV head of kv_lora_rank + qk_rope_head_dim numbers a token; 2 (2 kv_lora_rank
+ rope) operations for a head, a row and a key. Not absorbed: keys and values are expanded for each head, 2
(qk_nope + rope + v) operations.
"""

from __future__ import annotations

import numpy as np

from simserve.cost.kernels.attention import (
    KV_ELEMENT_BYTES,
    QUERY_BYTES,
    generation_order,
    kv_element_bytes,
    l2_hit_share,
)
from simserve.cost.kernels.decode_attention import spread_over_splits
from simserve.cost.kernels.flash_tile import Tile
from simserve.cost.kernels.form import Array, Constants, Device, Parameter, Shapes, smooth_maximum
from simserve.cost.kernels.prefill_attention import PrefillAttentionForm

# DeepSeek-V2 and V3 (their config.json): kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim.
KV_LORA_RANK, ROPE_DIM, NOPE_DIM, VALUE_DIM = 512, 64, 128, 128
# Rows of a tile of the tensor cores' instructions on Hopper and later.
_FULL_TILE = 64
# vLLM's benchmark of MLA's prefill waits for the host, which launches its many kernels one by one in about
# 150 microseconds whatever their size; in serving launches run ahead of the GPU, and host time is the step's.
_SERVING_OVERHEAD_S = 3e-5
_MEASURED_ALONE = ("trtllm-gen", "", "flash")
DECODE, PREFILL, ABSORBED_PREFILL = "decode", "prefill", "prefill-absorbed"


def mla_shapes(
    batch: Array, q_len: Array, kv_prefix: Array, heads: int, kv_dtype: str = "bfloat16",
    kv_lora_rank: int = KV_LORA_RANK, rope_dim: int = ROPE_DIM, nope_dim: int = NOPE_DIM,
    value_dim: int = VALUE_DIM,
) -> dict[str, Array]:  # fmt: skip
    """Return the columns that the forms of MLA take, of sizes a rank.

    Args:
        batch: Sequences, or equal chunks.
        q_len: New tokens of each; 1 in decode.
        kv_prefix: Tokens before them.
        heads: Query heads of the rank.
        kv_dtype: Of the latent cache.
        kv_lora_rank, rope_dim, nope_dim, value_dim: As in a model's config.json.
    """
    one = np.ones_like(batch, dtype=np.float64)
    return {
        "batch": batch, "q_len": q_len, "kv_prefix": kv_prefix, "heads": heads * one,
        "kv_bytes": KV_ELEMENT_BYTES.get(kv_dtype, QUERY_BYTES) * one, "kv_lora_rank": kv_lora_rank * one,
        "rope_dim": rope_dim * one, "nope_dim": nope_dim * one, "value_dim": value_dim * one,
    }  # fmt: skip


def mla_variants(phase: str, framework: str = "vllm", architecture: str = "") -> tuple[str, ...]:
    """Return the variants that may price a phase, `DECODE` or `PREFILL`; the engine's kernels first."""
    order = ("mla", *generation_order(framework, architecture))
    if phase == DECODE:
        # vLLM's benchmark of decodes, too, waits for the host; others measured the same work without that.
        order = (*_MEASURED_ALONE, *(name for name in order if name not in _MEASURED_ALONE))
    return tuple(mla_variant(generation, phase) for generation in order)


def mla_variant(generation: str, phase: str) -> str:
    """Return the variant of a generation's kernels in a phase."""
    return f"{generation}/{phase}" if generation else phase


class MlaDecodeForm:
    """Absorbed decode: all heads read the one latent head, in tiles of some heads, split over CTAs.

    Shape columns: as of `mla_shapes`; the context is kv_prefix + q_len.
    """

    name = "MLA-D3"
    parameters: tuple[Parameter, ...] = (
        Parameter("overhead_s", 1e-6, 1e-4, 1e-5),
        Parameter("bandwidth_efficiency", 0.05, 1.0, 0.8),
        Parameter("compute_efficiency", 0.35, 1.0, 0.6),
        # Benchmarks: what the L2 cache gains, up to which share of its size, how suddenly that ends.
        Parameter("l2_speedup", 1.0, 30.0, 2.0),
        Parameter("l2_share", 0.1, 3.0, 0.8),
        Parameter("l2_sharpness", 2.0, 30.0, 8.0),
        # Bandwidth of one CTA alone, over its share of the memory's.
        Parameter("cta_bandwidth", 0.02, 30.0, 2.0),
        Parameter("cta_s", 3e-7, 3e-5, 3e-6),
        # Joining the splits' results: a launch, and a little for each split.
        Parameter("combine_s", 1e-7, 1e-3, 3e-6),
        Parameter("combine_a_split_s", 1e-9, 1e-6, 1e-7),
        Parameter("p", 1.0, 20.0, 2.0),
        # Share of the time that the last, partly filled wave leaves multiprocessors idle.
        Parameter("wave_share", 0.0, 1.0, 0.7),
        # Share of the cache that each further tile of heads reads from memory again.
        Parameter("reread_share", 0.0, 1.0, 0.1),
    )

    def __init__(self, tile_heads: int = _FULL_TILE) -> None:
        """Choose how many heads share a tile; small tiles also leave most of the tensor cores unused."""
        self.tile_heads = tile_heads
        if tile_heads < _FULL_TILE:
            self.parameters = tuple(
                parameter._replace(low=0.02) if parameter.name == "compute_efficiency" else parameter
                for parameter in MlaDecodeForm.parameters
            )

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        context = shapes["kv_prefix"] + shapes["q_len"]
        bandwidth = constants["bandwidth_efficiency"] * device.bytes_per_s
        tiles = np.ceil(shapes["heads"] * shapes["q_len"] / self.tile_heads)
        width = (shapes["kv_lora_rank"] + shapes["rope_dim"]) * kv_element_bytes(shapes)
        cta = np.full_like(context, constants["cta_s"])
        a_key = width * device.sms / (constants["cta_bandwidth"] * device.bytes_per_s)
        spread = spread_over_splits(shapes["batch"] * tiles / device.sms, context, cta, a_key, constants)
        moved = shapes["batch"] * context * width * (1 + (tiles - 1) * constants["reread_share"])
        memory = moved / bandwidth
        if warm:
            hits = l2_hit_share(moved, device, constants["l2_share"], constants["l2_sharpness"])
            memory = memory * (hits / constants["l2_speedup"] + 1 - hits)
        compute = _decode_flops(shapes) / (constants["compute_efficiency"] * device.flops_per_s)
        busy = smooth_maximum(smooth_maximum(spread, memory, constants["p"]), compute, constants["p"])
        total = constants["overhead_s"] + busy + _query_bytes(shapes) / bandwidth
        return total if warm else np.maximum(total, self.bound_seconds(shapes, device))

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """What the physical peaks allow with cold caches."""
        context = shapes["kv_prefix"] + shapes["q_len"]
        width = (shapes["kv_lora_rank"] + shapes["rope_dim"]) * kv_element_bytes(shapes)
        moved = shapes["batch"] * context * width + _query_bytes(shapes)
        return np.asarray(np.maximum(_decode_flops(shapes) / device.flops_per_s, moved / device.bytes_per_s))


class MlaPrefillForm:
    """Prefill: the form of other attention, with the widths of MLA. Shape columns: as of `mla_shapes`."""

    name = "MLA-P3"
    # One call is many kernels (up-projections, copies), which benchmarks launch one by one.
    parameters = PrefillAttentionForm(largest_overhead_s=5e-4).parameters

    def __init__(self, tile: Tile, *, absorbed: bool) -> None:
        """Choose how the kernel cuts its work, and whether it works on the latent cache itself."""
        self.absorbed = absorbed
        self.form = PrefillAttentionForm(tile)

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        if not warm:
            constants = {**constants, "overhead_s": min(constants["overhead_s"], _SERVING_OVERHEAD_S)}
        return self.form.seconds(self._plain(shapes), constants, device, warm=warm)

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """What the physical peaks allow with cold caches."""
        return self.form.bound_seconds(self._plain(shapes), device)

    def _plain(self, shapes: Shapes) -> dict[str, Array]:
        """Columns of the launch as other attention; a width is the mean of keys' and values'."""
        if self.absorbed:
            keys, values = shapes["kv_lora_rank"] + shapes["rope_dim"], shapes["kv_lora_rank"]
        else:
            keys, values = shapes["nope_dim"] + shapes["rope_dim"], shapes["value_dim"]
        heads = shapes["heads"]
        return {
            "batch": shapes["batch"], "q_len": shapes["q_len"], "kv_prefix": shapes["kv_prefix"],
            "heads": heads,
            "kv_heads": np.ones_like(heads) if self.absorbed else heads, "head_dim": (keys + values) / 2,
            "window": np.zeros_like(heads), "kv_bytes": kv_element_bytes(shapes) * np.ones_like(heads),
        }  # fmt: skip


def _decode_flops(shapes: Shapes) -> Array:
    """Operations of absorbed attention: 2 (2 kv_lora_rank + rope) for a head, a row and a key."""
    context = shapes["kv_prefix"] + shapes["q_len"]
    pairs = shapes["batch"] * shapes["heads"] * shapes["q_len"] * context
    return np.asarray(2 * pairs * (2 * shapes["kv_lora_rank"] + shapes["rope_dim"]))


def _query_bytes(shapes: Shapes) -> Array:
    """Bytes of absorbed queries and outputs."""
    rows = shapes["batch"] * shapes["heads"] * shapes["q_len"]
    return np.asarray(QUERY_BYTES * rows * (2 * shapes["kv_lora_rank"] + shapes["rope_dim"]))
