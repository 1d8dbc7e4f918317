"""What decides how attention kernels cut their work: packing, splits, windows, tiles, mixed batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernels.decode_attention import cache_bytes, decode_shapes, decode_variants
from simserve.cost.kernels.fa2_decode import Fa2DecodeForm, flash_splits
from simserve.cost.kernels.flash_tile import Tile
from simserve.cost.kernels.form import Array, KernelForm
from simserve.cost.kernels.mixed_attention import MixedAttentionForm, RepeatedForm, mixed_shapes
from simserve.cost.kernels.mla import mla_variants
from simserve.cost.kernels.prefill_attention import PrefillAttentionForm, prefill_shapes, prefill_variants
from simserve.scenario.catalog import load_hardware

H100 = describe_device(load_hardware("h100-sxm"), "bfloat16")
L40S = describe_device(load_hardware("l40s"), "bfloat16")


def starts(form: KernelForm) -> dict[str, float]:
    return {parameter.name: parameter.start for parameter in form.parameters}


def arrays(*sizes: float) -> tuple[Array, ...]:
    return tuple(np.array([size], dtype=np.float64) for size in sizes)


def test_fa2_splits_as_flash_attention_does() -> None:
    # By hand from num_splits_heuristic: 8 CTAs on 2 x 142 slots, 32 blocks: 32 splits fill 0.90 of a wave.
    ctas, blocks = np.array([8.0, 8.0, 284.0]), np.array([32.0, 1.0, 64.0])
    assert flash_splits(ctas.tobytes(), blocks.tobytes(), 284).tolist() == [32.0, 1.0, 1.0]


def test_windows_and_mha_cost_fa2_its_packing() -> None:
    form = Fa2DecodeForm()
    batch, context = arrays(64, 8192)
    grouped = form.seconds(decode_shapes(batch, context, 32, 8, 128), starts(form), L40S, warm=False)
    # The same cache for each query head: four times the bytes.
    alone = form.seconds(decode_shapes(batch, context, 32, 32, 128), starts(form), L40S, warm=False)
    assert 3 < (alone / grouped)[0] < 5
    assert decode_variants(32, 32)[2] == "fa2/unpacked" == decode_variants(32, 8, window=128)[2]
    assert decode_variants(32, 8)[:3] == ("fa3", "trtllm-gen", "fa2")
    assert decode_variants(64, 1)[0] == "fa3/wide"
    assert prefill_variants(window=128)[0] == "fa3/window"
    assert mla_variants("decode")[:4] == ("trtllm-gen/decode", "decode", "flash/decode", "mla/decode")
    assert mla_variants("prefill")[0] == "mla/prefill"


def test_a_prefill_chunk_makes_decodes_dearer_on_fa2() -> None:
    # Kernel study, finding 3: 128 decodes of 16 k with a chunk of 16 take 3.7 times the decodes alone.
    device = describe_device(load_hardware("rtx-pro-6000-server"), "bfloat16")
    chunk, none, decodes, context = arrays(16, 0, 128, 16_384)
    alone = Fa2DecodeForm().seconds(
        decode_shapes(decodes, context, 32, 8, 128), starts(Fa2DecodeForm()), device, warm=False
    )
    form = MixedAttentionForm()
    mixed = form.seconds(
        mixed_shapes(chunk, none, decodes, context, 32, 8, 128), starts(form), device, warm=False
    )
    assert 2.5 < (mixed / alone)[0] < 5


def test_repeated_launches_are_a_matter_of_the_benchmark() -> None:
    plain, repeated = MixedAttentionForm(), RepeatedForm(MixedAttentionForm())
    chunk, none, decodes, context = arrays(16, 0, 8, 1000)
    shapes = mixed_shapes(chunk, none, decodes, context, 32, 8, 128)
    constants = starts(repeated)
    once = plain.seconds(shapes, constants, L40S, warm=True)
    assert repeated.seconds(shapes, constants, L40S, warm=True) == pytest.approx(once * constants["launches"])
    assert repeated.seconds(shapes, constants, L40S, warm=False) == plain.seconds(
        shapes, constants, L40S, warm=False
    )


def test_narrow_caches_move_fewer_bytes() -> None:
    batch, context = arrays(64, 4096)
    moved = [
        cache_bytes(decode_shapes(batch, context, 32, 8, 128, kv_dtype=kv))[0]
        for kv in ("bfloat16", "fp8", "int4")
    ]
    assert moved[0] == 2 * moved[1] == pytest.approx(3.2 * moved[2])


def test_flash_attention_tiles_fit_the_shared_memory() -> None:
    tile = Tile(128, 128, packs=True)
    for width, sram in ((64.0, 101_376.0), (128.0, 101_376.0), (256.0, 101_376.0), (128.0, 49_152.0)):
        rows = tile.fitted_rows(np.array([width]), 2.0, sram)[0]
        assert 16 <= rows <= 128
    assert tile.fitted_rows(np.array([128.0]), 2.0, 0.0)[0] == 128
    by_sram = [tile.fitted_rows(np.array([128.0]), 2.0, sram)[0] for sram in (16e3, 32e3, 64e3, 128e3, 256e3)]
    assert all(small <= large for small, large in pairwise(by_sram))
    assert by_sram[0] < by_sram[-1]


def test_smaller_tiles_reread_more_keys() -> None:
    batch, new, none = arrays(8, 4096, 0)
    shapes = prefill_shapes(batch, new, none, 32, 8, 128)
    sweep = []
    for rows in (16, 32, 64, 128):
        form = PrefillAttentionForm(Tile(rows, 64, packs=False))
        slow_l2 = starts(form) | {"reread_speedup": 1.0}
        sweep.append(form.seconds(shapes, slow_l2, H100, warm=False)[0])
    assert all(small > large for small, large in pairwise(sweep))
