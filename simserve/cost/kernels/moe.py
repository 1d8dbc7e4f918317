"""Fused mixture of experts, form E3: activated experts, tile-padded picks an expert, waves and row passes.

Both grouped GEMMs of the busiest rank (`expert_load`) are priced as the slower of arithmetic on whole tiles
and of reading each activated expert's weights once; the least over the tile heights counts, as tuned kernels
choose their tile by the picks an expert has, but for vLLM's Triton experts where nobody tuned them: those
take 64 rows as soon as there are more tokens than experts (fused_moe.py, get_default_config). Sorting, the
activation and the weighted sum are passes over the picked rows (of this rank), the routed rows (of all ranks:
vLLM's Triton experts size their buffers so) and the tokens' rows, and a while for each pick.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from simserve.cost.kernels.expert_load import PADDED, TILE_ROWS, load_columns
from simserve.cost.kernels.form import Array, Constants, Device, KernelForm, Parameter, Shapes

# Columns of a tile, and the 16-bit outputs of both GEMMs.
TILE_COLUMNS = 128
OUTPUT_BYTES = 2.0
# More whole waves than this, and the last, partly filled one no longer shows.
_WAVES = 8.0
# Depth of a tile's loop that `tile_s` is stated for.
_DEPTH = 1024.0
# Kinds of kernels, best first for serving: vLLM takes Triton's on Hopper and before (and on what nobody has
# measured), TensorRT-LLM's on Blackwell, where no table has Triton's.
OTHER = "other"
SERVING_VARIANTS = (
    "triton", "trtllm", "cutlass", "torch_flow", "marlin", "trtllm_modular", "cutlass_nongated", OTHER,
)  # fmt: skip
# Shape columns of a rank's loads.
LOADS = ("activated", "picks", *(f"padded{rows}" for rows in TILE_ROWS))
_ROUTING = ("experts", "topk", "moe_ep", "skew")
# Tile heights of Triton's default configurations: up to as many tokens as a rank has experts, and beyond.
_FEW_ROWS, _MANY_ROWS = 16, 64


def moe_loads(shapes: Shapes) -> dict[str, Array]:
    """Return the loads of the busiest rank as shape columns: activated, picks, padded8 ... padded128.

    Args:
        shapes: tokens, topk, experts, moe_ep, skew; activated: experts that the rank's picks spread over
            evenly, below 0 for what the routing gives.
    """
    tokens = shapes["tokens"]
    loads = np.empty((len(tokens), PADDED + len(TILE_ROWS)))
    routing = np.column_stack([shapes[name] for name in _ROUTING])
    kinds, kind = np.unique(routing, axis=0, return_inverse=True)
    for index, (experts, picks, ranks, skew) in enumerate(kinds.tolist()):
        rows = kind.reshape(-1) == index
        loads[rows] = load_columns(tokens[rows], (int(experts), int(picks), int(ranks), skew))
    given = shapes["activated"] >= 0
    if given.any():
        active = np.maximum(shapes["activated"][given], 1.0)
        picks = tokens[given] * shapes["topk"][given] / shapes["moe_ep"][given]
        loads[given] = np.column_stack(list(spread_evenly(active, picks).values()))
    return dict(zip(LOADS, loads.T, strict=True))


def spread_evenly(activated: Array, picks: Array) -> dict[str, Array]:
    """Return the shape columns of `picks` that are spread evenly over `activated` experts."""
    padded = (activated * np.ceil(picks / activated / rows) * rows for rows in TILE_ROWS)
    return dict(zip(LOADS, (activated, picks, *padded), strict=True))


_GEMM_PARAMETERS = (
    Parameter("compute_efficiency", 0.05, 1.0, 0.6),
    Parameter("bandwidth_efficiency", 0.05, 1.0, 0.85),
    Parameter("p", 1.0, 12.0, 2.5),
    Parameter("half_tile_rows", 0.1, 300.0, 12.0),
    Parameter("prologue_depth", 1.0, 1000.0, 64.0),
    Parameter("tile_s", 1e-8, 2e-5, 1.5e-6),
)


class MoeForm:
    """Seconds of the routed experts of one layer on the busiest rank, router and shared experts not included.

    Shape columns: tokens (routed by the expert-parallel ranks together), hidden, inter (of a whole expert),
    topk, experts, moe_tp, moe_ep (ranks that share an expert's width, and that share the experts), skew (see
    `expert_load`), activated (below 0: as routed), gated (1 for SwiGLU with its two up projections, 0 for
    one), weight_bytes and activation_bytes of an element, scales included. Instead of the routing the columns
    of `moe_loads` may be given.
    """

    name = "E3"
    parameters = (
        *_GEMM_PARAMETERS,
        Parameter("overhead_s", 1e-6, 4e-4, 2e-5),
        Parameter("l2_speedup", 1.0, 8.0, 1.5),
        Parameter("picked_row_passes", 1e-3, 30.0, 2.0),
        Parameter("routed_hidden_passes", 1e-3, 100.0, 0.3),
        Parameter("routed_inner_passes", 1e-3, 100.0, 0.3),
        Parameter("token_row_passes", 1e-3, 30.0, 1.0),
        Parameter("pick_s", 1e-13, 1e-8, 1e-11),
        # Share of the default tiles in the time: 0 where all is tuned.
        Parameter("default_tiles", 0.0, 1.0, 0.0),
        # Share of the bandwidth that a rank's only expert gets: CUTLASS's grouped kernels on Hopper are up to
        # four times slower with one group than with two.
        Parameter("lone_share", 0.05, 1.0, 1.0),
    )

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        loads = shapes if "picks" in shapes else moe_loads(shapes)
        hidden, inner = shapes["hidden"], shapes["inter"] / shapes["moe_tp"]
        ups = 1.0 + shapes["gated"]
        weights = loads["activated"] * (ups + 1) * hidden * inner * shapes["weight_bytes"]
        slow = _cold_share(weights, constants, device) if warm else np.ones_like(hidden)
        slow = slow / np.where(shapes["experts"] <= shapes["moe_ep"], constants["lone_share"], 1.0)
        passes = self._row_passes(shapes, loads, constants, ups * inner)
        total = constants["overhead_s"] + passes / device.bytes_per_s
        total = total + constants["pick_s"] * shapes["tokens"] * shapes["topk"]
        for columns, depth in ((ups * inner, hidden), (hidden, inner)):
            by_tile = _grouped_gemm_s({**shapes, **loads}, columns, depth, slow, constants, device)
            total = total + self._choose_tiles(by_tile, shapes, constants)
        return np.asarray(total)

    @staticmethod
    def _choose_tiles(by_tile: Mapping[int, Array], shapes: Shapes, constants: Constants) -> Array:
        """The fastest tile's seconds, mixed with those of the default tile."""
        best = np.minimum.reduce([*by_tile.values()])
        few = shapes["tokens"] <= shapes["experts"] / shapes["moe_ep"]
        many = by_tile[_MANY_ROWS]
        usual = np.where(few, np.minimum(by_tile[_FEW_ROWS], many), many)
        return np.asarray(best + constants["default_tiles"] * (usual - best))

    @staticmethod
    def _row_passes(shapes: Shapes, loads: Shapes, constants: Constants, columns: Array) -> Array:
        """Bytes that the kernels around the GEMMs move."""
        hidden, tokens = shapes["hidden"], shapes["tokens"]
        routed = constants["routed_hidden_passes"] * hidden + constants["routed_inner_passes"] * columns
        elements = (
            constants["picked_row_passes"] * loads["picks"] * (columns + hidden)
            + tokens * shapes["topk"] * routed
            + constants["token_row_passes"] * tokens * hidden
        )
        return np.asarray(OUTPUT_BYTES * elements)


class GroupedGemmForm:
    """Seconds of one grouped GEMM over the experts of a rank.

    Shape columns: columns, depth (outputs and inputs of each expert's matrix), weight_bytes and
    activation_bytes of an element, and those of `spread_evenly`.
    """

    name = "E1"
    parameters = (
        *_GEMM_PARAMETERS,
        Parameter("overhead_s", 1e-7, 2e-4, 5e-6),
        Parameter("expert_s", 1e-9, 1e-5, 1e-8),
        Parameter("l2_speedup", 1.0, 8.0, 1.5),
    )

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """Seconds of one launch a row; see `KernelForm.seconds`."""
        columns, depth = shapes["columns"], shapes["depth"]
        weights = shapes["activated"] * columns * depth * shapes["weight_bytes"]
        slow = _cold_share(weights, constants, device) if warm else np.ones_like(depth)
        fixed_s = constants["overhead_s"] + constants["expert_s"] * shapes["activated"]
        by_tile = _grouped_gemm_s(shapes, columns, depth, slow, constants, device)
        return np.asarray(fixed_s + np.minimum.reduce([*by_tile.values()]))


def _cold_share(weights: Array, constants: Constants, device: Device) -> Array:
    """Share of the cold time that reading weights takes in a benchmark that repeats the kernel."""
    if not device.l2_bytes:
        return np.ones_like(weights)
    cached = np.clip(1.5 - weights / device.l2_bytes, 0.0, 1.0)
    return np.asarray(1 - cached + cached / constants["l2_speedup"])


def _grouped_gemm_s(
    shapes: Shapes, columns: Array, depth: Array, slow: Array, constants: Constants, device: Device
) -> dict[int, Array]:
    """Seconds of one grouped GEMM by the height of its tiles.

    Args:
        shapes: Shape columns, loads among them.
        columns, depth: Outputs and inputs of each expert's matrix on this rank.
        slow: Share of the cold time that reading the weights takes.
        constants: Of the form.
        device: Its peaks.
    """
    deep = depth + constants["prologue_depth"]
    weights = shapes["activated"] * columns * deep * shapes["weight_bytes"] * slow
    rows = shapes["picks"] * (depth * shapes["activation_bytes"] + columns * OUTPUT_BYTES)
    memory_s = (weights + rows) / (constants["bandwidth_efficiency"] * device.bytes_per_s)
    wide = np.maximum(columns, TILE_COLUMNS)
    latency_s = constants["tile_s"] * depth / _DEPTH
    by_tile = {}
    for tile in TILE_ROWS:
        padded = shapes[f"padded{tile}"]
        tiles = np.maximum(padded / tile, 1e-3) * wide / TILE_COLUMNS
        waves = np.minimum(tiles / device.sms, _WAVES)
        rate = device.flops_per_s * constants["compute_efficiency"]
        rate *= tile / (tile + constants["half_tile_rows"])
        compute_s = 2 * padded * wide * deep / rate * np.ceil(waves) / waves
        by_tile[tile] = latency_s + _smooth_maximum(compute_s, memory_s, constants["p"])
    return by_tile


def _smooth_maximum(one: Array, other: Array, p: float) -> Array:
    large = np.maximum(one, other)
    return np.asarray(large * ((one / large) ** p + (other / large) ** p) ** (1 / p))


@cache
def moe_form() -> KernelForm:
    """The one form of all experts."""
    return MoeForm()


@cache
def grouped_gemm_form() -> KernelForm:
    """The one form of all single grouped GEMMs."""
    return GroupedGemmForm()
