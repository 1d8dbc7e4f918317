"""Attention's kernel models: never above the peaks, no dips, and what decides how the work is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernels.decode_attention import (
    SplitDecodeForm,
    decode_shapes,
)
from simserve.cost.kernels.fa2_decode import Fa2DecodeForm
from simserve.cost.kernels.flash_tile import TILES, Tile
from simserve.cost.kernels.form import Array, Constants, Device, KernelForm
from simserve.cost.kernels.mixed_attention import MixedAttentionForm, mixed_shapes
from simserve.cost.kernels.mla import MlaDecodeForm, MlaPrefillForm, mla_shapes
from simserve.cost.kernels.prefill_attention import (
    PrefillAttentionForm,
    prefill_shapes,
    tile_keys,
    visible_keys,
)
from simserve.scenario.catalog import load_hardware

H100 = describe_device(load_hardware("h100-sxm"), "bfloat16")
L40S = describe_device(load_hardware("l40s"), "bfloat16")
# Heads, KV heads, head_dim, window: one of each kind.
LAYERS = ((32, 8, 128, 0), (8, 8, 64, 0), (64, 1, 128, 0), (32, 4, 64, 128), (1, 1, 256, 1024))
DECODES: tuple[KernelForm, ...] = (SplitDecodeForm(), Fa2DecodeForm())
PREFILLS = (PrefillAttentionForm(), *(PrefillAttentionForm(tile) for tile in TILES.values()))
MLAS = (
    (MlaDecodeForm(), True),
    (MlaDecodeForm(16), True),
    (MlaPrefillForm(TILES["fa3"], absorbed=True), False),
    (MlaPrefillForm(Tile(128, 64, packs=False), absorbed=False), False),
)
# No dip above this between neighbouring sizes.
DIP = 0.05
ROUNDING = 1 - 1e-9

SizeOf = Callable[[Array], Mapping[str, Array]]


def starts(form: KernelForm) -> dict[str, float]:
    return {parameter.name: parameter.start for parameter in form.parameters}


def drawn(form: KernelForm, share: float) -> dict[str, float]:
    """Constants between the bounds of a fit."""
    return {
        p.name: p.low * (p.high / p.low) ** share if p.low > 0 else share * p.high for p in form.parameters
    }


def arrays(*sizes: float) -> tuple[Array, ...]:
    return tuple(np.array([size], dtype=np.float64) for size in sizes)


def check_growth(
    form: KernelForm, constants: Constants, device: Device, size_of: SizeOf, largest: int
) -> None:
    """No dips between neighbours, and no doubling that gets cheaper."""
    near = np.arange(1.0, 400.0)
    far = 2.0 ** np.arange(0, np.log2(largest) + 1)
    for sizes in (near, np.concatenate([far - 1, far, far + 1]), far):
        sizes = np.unique(sizes[sizes >= 1])
        seconds = form.seconds(size_of(sizes), constants, device, warm=False)
        assert (seconds > 0).all()
        assert (seconds[1:] >= (1 - DIP) * seconds[:-1]).all()
    doubled = form.seconds(size_of(far), constants, device, warm=False)
    assert (doubled[1:] >= doubled[:-1] * ROUNDING).all()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("form", DECODES, ids=lambda form: form.name)
@pytest.mark.parametrize("share", [None, 0.2, 0.8])
def test_decode_grows_with_sequences_and_context(
    form: KernelForm, layer: tuple[int, int, int, int], share: float | None
) -> None:
    constants = starts(form) if share is None else drawn(form, share)
    for device in (H100, L40S):
        for other in (1.0, 50.0, 3000.0):

            def sequences(n: Array, context: float = other) -> dict[str, Array]:
                return decode_shapes(n, np.full_like(n, context), *layer)

            def contexts(n: Array, batch: float = other) -> dict[str, Array]:
                return decode_shapes(np.full_like(n, batch), n, *layer)

            check_growth(form, constants, device, sequences, 4096)
            check_growth(form, constants, device, contexts, 2**20)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("form", PREFILLS, ids=lambda form: str(form.tile))
def test_prefill_grows_with_chunks_tokens_and_history(
    form: PrefillAttentionForm, layer: tuple[int, int, int, int]
) -> None:
    constants = starts(form)
    for device in (H100, L40S):
        for other in (0.0, 777.0, 20_000.0):

            def tokens(n: Array, history: float = other) -> dict[str, Array]:
                return prefill_shapes(np.ones_like(n), n, np.full_like(n, history), *layer)

            def history(n: Array, new: float = other) -> dict[str, Array]:
                return prefill_shapes(np.ones_like(n), np.full_like(n, new + 1), n, *layer)

            def chunks(n: Array, new: float = other) -> dict[str, Array]:
                return prefill_shapes(n, np.full_like(n, new + 1), np.zeros_like(n), *layer)

            for size_of in (tokens, history, chunks):
                check_growth(form, constants, device, size_of, 2**17)


@pytest.mark.parametrize("layer", [(32, 8, 128), (8, 8, 64), (64, 4, 128)])
def test_mixed_grows_with_everything(layer: tuple[int, int, int]) -> None:
    form = MixedAttentionForm()
    base = {"prefill_chunk": 64.0, "kv_prefill": 100.0, "n_decode": 20.0, "kv_decode": 900.0}
    for device in (L40S, H100):
        for name in base:

            def sizes(n: Array, swept: str = name) -> dict[str, Array]:
                fixed = {key: np.full_like(n, value) for key, value in base.items()} | {swept: n}
                return mixed_shapes(
                    fixed["prefill_chunk"], fixed["kv_prefill"], fixed["n_decode"], fixed["kv_decode"], *layer
                )

            check_growth(form, starts(form), device, sizes, 2**13)


@pytest.mark.parametrize(("form", "decode"), MLAS)
@pytest.mark.parametrize("heads", [4, 16, 128])
def test_mla_grows_with_everything(form: KernelForm, decode: bool, heads: int) -> None:
    def tokens(n: Array) -> dict[str, Array]:
        first, other = (np.ones_like(n), n) if decode else (n, np.zeros_like(n))
        return mla_shapes(np.full_like(n, 3.0), first, other, heads)

    def batch(n: Array) -> dict[str, Array]:
        return mla_shapes(n, np.full_like(n, 1.0 if decode else 65.0), np.full_like(n, 700.0), heads)

    for size_of in (tokens, batch):
        check_growth(form, starts(form), H100, size_of, 2**15)


@given(
    batch=st.integers(1, 2048), context=st.integers(1, 200_000), chunk=st.integers(1, 16_384),
    layer=st.sampled_from(LAYERS), share=st.floats(0, 1), warm_too=st.booleans(),
)  # fmt: skip
def test_serving_never_beats_the_peaks(
    batch: int, context: int, chunk: int, layer: tuple[int, int, int, int], share: float, warm_too: bool
) -> None:
    heads, kv_heads, width, window = layer
    n, kv, new = arrays(batch, context, chunk)
    seen = min(context, window) if window else context
    for device in (H100, L40S):
        for form in DECODES:
            seconds = form.seconds(decode_shapes(n, kv, *layer), drawn(form, share), device, warm=False)[0]
            moved = 2 * batch * width * (kv_heads * seen * 2 + heads * 2)
            assert seconds >= moved / device.bytes_per_s * ROUNDING
            assert seconds >= 4 * batch * heads * seen * width / device.flops_per_s * ROUNDING
        keys = sum(min(context + row, window or 2**40) for row in range(1, chunk + 1))
        for form in PREFILLS:
            shapes = prefill_shapes(n, new, kv, *layer)
            seconds = form.seconds(shapes, drawn(form, share), device, warm=False)[0]
            assert seconds >= 4 * batch * heads * width * keys / device.flops_per_s * ROUNDING
            if warm_too:
                assert form.seconds(shapes, drawn(form, share), device, warm=True)[0] > 0


def test_visible_keys_counts_every_row() -> None:
    for new, history, window in ((5, 0, 0), (5, 7, 0), (100, 3, 16), (9, 40, 16), (64, 10, 64)):
        rows = sum(min(history + row, window or 2**40) for row in range(1, new + 1))
        assert visible_keys(*arrays(new, history, window))[0] == rows


def test_tiles_count_the_keys_up_to_their_last_row() -> None:
    for new, history, rows in ((128, 0, 64), (130, 0, 64), (1, 500, 64), (300, 77, 128)):
        ends = [min((tile + 1) * rows, new) for tile in range(-(-new // rows))]
        tiles, keys, longest = tile_keys(*arrays(new, history, 0, rows))
        assert (tiles[0], keys[0], longest[0]) == (
            len(ends),
            sum(history + end for end in ends),
            history + new,
        )
