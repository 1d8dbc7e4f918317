"""The fast path of the roofline timer: exact repetition, agreement with its explanation, whole integers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.cost.build import ExplainableTimer
from simserve.cost.timer import Chunk

CONFIGS = (
    ("llama-3.1-8b", "h100-sxm", 1),
    ("llama-3.1-70b", "a100-sxm-80gb", 4),
    ("deepseek-v3", "h200-sxm", 8),
    ("gpt-oss-20b", "rtx-4090", 1),
    ("mistral-7b-v0.1", "l4", 1),
    ("qwen3-30b-a3b", "mi300x", 2),
)
configs = st.sampled_from(CONFIGS)
chunk_lists = st.lists(st.builds(Chunk, st.integers(1, 3000), st.integers(0, 20000)), max_size=4)


BuildTimers = Callable[..., list[ExplainableTimer]]


@given(
    config=configs,
    decodes=st.integers(1, 600),
    context=st.integers(1, 10**8),
    steps=st.integers(1, 400),
)
@settings(max_examples=100, deadline=None)
def test_many_steps_at_once_are_the_same_integers_as_one_by_one(
    stage_timers: BuildTimers, config: tuple[str, str, int], decodes: int, context: int, steps: int
) -> None:
    it = stage_timers(*config)[0]
    window = decodes * 100
    together = it.decode_ns(decodes, context, window, steps)
    alone = [it.decode_ns(decodes, context + j * decodes, window, 1)[0] for j in range(steps)]
    assert together == alone
    assert all(type(duration) is int and duration > 0 for duration in together)


@given(config=configs, decodes=st.integers(1, 600), context=st.integers(1, 10**7))
@settings(max_examples=100, deadline=None)
def test_a_batch_without_chunks_is_a_decode_step(
    stage_timers: BuildTimers, config: tuple[str, str, int], decodes: int, context: int
) -> None:
    it = stage_timers(*config)[0]
    window = min(context, decodes * 128)
    batch = it.batch_ns(decodes, context, window, [], decodes)
    assert [batch] == it.decode_ns(decodes, context, window, 1)
    assert type(batch) is int


@given(
    config=configs,
    decodes=st.integers(0, 300),
    context=st.integers(1, 4000),
    chunks=chunk_lists,
)
@settings(max_examples=100, deadline=None)
def test_the_explanation_adds_up_to_the_step(
    stage_timers: BuildTimers, config: tuple[str, str, int], decodes: int, context: int, chunks: list[Chunk]
) -> None:
    if not decodes and not chunks:
        return
    it = stage_timers(*config)[0]
    shape = (decodes, decodes * context, decodes * min(context, 128), chunks, decodes + len(chunks))
    total_s = it.batch_ns(*shape) / 1e9
    assert sum(row.seconds for row in it.explain(*shape)) == pytest.approx(total_s, rel=1e-9, abs=1e-9)
    assert sum(it.bound_seconds(*shape).values()) == pytest.approx(total_s, rel=1e-9, abs=1e-9)


def test_times_do_not_depend_on_what_was_asked_before(fresh_timers: BuildTimers) -> None:
    sizes = (5000, 3, 700, 511, 512, 513, 1)
    forward, backward = (fresh_timers("llama-3.1-8b", "h100-sxm")[0] for _ in range(2))
    first = {n: forward.decode_ns(n, n * 999, 0, 1) for n in sizes}
    second = {n: backward.decode_ns(n, n * 999, 0, 1) for n in reversed(sizes)}
    assert first == second


def test_a_step_that_samples_nothing_skips_the_lm_head(stage_timers: BuildTimers) -> None:
    it = stage_timers(*CONFIGS[0])[0]
    with_head = it.batch_ns(0, 0, 0, [Chunk(512, 0)], 1)
    without = it.batch_ns(0, 0, 0, [Chunk(512, 0)], 0)
    # 128,256 x 4,096 weights of 2 bytes at no more than 3,350 GB/s.
    assert with_head - without >= 128_256 * 4_096 * 2 / 3350e9 * 1e9


def test_pipeline_stages_add_up_to_the_whole_model(stage_timers: BuildTimers) -> None:
    whole = stage_timers(*CONFIGS[0])[0]
    stages = stage_timers("llama-3.1-8b", "h100-sxm", pp=4)
    shape = (30, 30 * 1500, 0, [Chunk(700, 100)], 31)
    assert sum(stage.batch_ns(*shape) for stage in stages) == pytest.approx(whole.batch_ns(*shape), abs=8)
    assert [stage.send_ns(730) > 0 for stage in stages] == [True, True, True, False]
    assert stages[0].send_ns(1460) > stages[0].send_ns(730)


def test_tensor_parallelism_is_faster_but_not_for_free(stage_timers: BuildTimers) -> None:
    times = {tp: stage_timers("llama-3.1-70b", "h100-sxm", tp=tp)[0] for tp in (1, 2, 4, 8)}
    steps = {tp: it.decode_ns(64, 64 * 2000, 0, 1)[0] for tp, it in times.items()}
    assert steps[1] > steps[2] > steps[4] > steps[8] > steps[1] / 8
    assert "all_reduce" in {row.operator for row in times[8].explain(64, 128000, 0, [], 64)}
    assert times[8].bound_seconds(64, 128000, 0, [], 64)["communication"] > 0
    assert times[1].bound_seconds(64, 128000, 0, [], 64)["communication"] == 0


def test_a_window_caps_what_its_layers_read(stage_timers: BuildTimers) -> None:
    it = stage_timers("mistral-7b-v0.1", "l4")[0]
    assert it.decode_ns(4, 4 * 30000, 4 * 4096, 1) == it.decode_ns(4, 4 * 9000, 4 * 4096, 1)
    assert it.batch_ns(0, 0, 0, [Chunk(100, 30000)], 1) == it.batch_ns(0, 0, 0, [Chunk(100, 9000)], 1)
    assert it.batch_ns(0, 0, 0, [Chunk(100, 3000)], 1) < it.batch_ns(0, 0, 0, [Chunk(100, 9000)], 1)


def test_known_step_of_llama_on_h100(stage_timers: BuildTimers) -> None:
    # 16 GB of weights and 16 x 2,048 x 128 KiB of KV at 3,350 GB/s are 6.1 ms, the floor; calibrated
    # rates and launches put it near 8 ms. 2,048 tokens x 2 x 7.5 G weights / 989 TFLOP/s are 31 ms.
    it = stage_timers(*CONFIGS[0])[0]
    assert 6.1e6 < it.decode_ns(16, 16 * 2048, 0, 1)[0] < 9e6
    assert 31e6 < it.batch_ns(0, 0, 0, [Chunk(2048, 0)], 1) < 60e6


def test_decode_of_a_small_batch_waits_for_memory_and_a_prefill_for_arithmetic(
    stage_timers: BuildTimers,
) -> None:
    it = stage_timers(*CONFIGS[0])[0]
    decode = it.bound_seconds(16, 16 * 2048, 0, [], 16)
    prefill = it.bound_seconds(0, 0, 0, [Chunk(4096, 0)], 1)
    assert max(decode, key=lambda bound: decode[bound]) == "bandwidth"
    assert max(prefill, key=lambda bound: prefill[bound]) == "compute"
