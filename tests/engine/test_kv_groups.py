"""KV groups of uniform and hybrid models, as vLLM forms them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simserve.engine.kv_groups import KVLayout, kv_layout
from simserve.engine.memory import MemoryRequest
from simserve.model.stage import split_stages
from simserve.scenario.catalog import load_model


def layout_of(name: str, **options: object) -> KVLayout:
    shape = load_model(name)
    request = replace(MemoryRequest(), **options)  # type: ignore[arg-type]
    return kv_layout(shape, split_stages(shape.num_layers, 1)[0], "bfloat16", request)


@pytest.mark.parametrize(
    ("name", "windows", "layers_a_block"),
    [
        ("llama-3.1-8b", (None,), 32),
        ("mistral-7b-v0.1", (4096,), 32),
        ("gemma-2-9b", (None, 4096), 21),
        ("gpt-oss-20b", (None, 128), 12),
        # 10 full and 52 window layers: groups of 10, the last of the six padded.
        ("gemma-3-27b", (None, *(1024,) * 6), 10),
        ("gemma-3-1b", (None, *(512,) * 6), 4),
    ],
)
def test_groups(name: str, windows: tuple[int | None, ...], layers_a_block: int) -> None:
    layout = layout_of(name)
    assert layout.windows == windows
    page = 16 * load_model(name).kv_bytes_per_token_layer()
    assert layout.block_bytes == layers_a_block * page


def test_without_the_hybrid_manager_there_is_one_group() -> None:
    layout = layout_of("gpt-oss-20b", disable_hybrid_kv_cache_manager=True)
    assert layout.windows == (None,)
    assert layout.block_bytes == 24 * 16 * load_model("gpt-oss-20b").kv_bytes_per_token_layer()


def test_blocks_of_a_request() -> None:
    full = KVLayout((None,), 16, 1)
    assert full.blocks_needed(33, 2048) == 3
    assert full.longest_request(3, 2048) == 48
    hybrid = KVLayout((None, 128), 16, 1)
    # 10,000 tokens: 625 blocks in full, and ceil((127 + 64) / 16) + 1 in the window.
    assert hybrid.blocks_needed(10_000, 64) == 625 + 13
    assert hybrid.longest_request(625 + 13, 64) == 10_000
    window = KVLayout((128,), 16, 1)
    assert window.longest_request(13, 64) == 2**40
    assert window.longest_request(12, 64) == 176
