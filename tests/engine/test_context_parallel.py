"""KV caches sharded along the sequence: capacity, what is refused, what steps then cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from simserve.cost.attention_prices import KernelAttention
from simserve.cost.build import CostSpec, ExplainableTimer, build_timers
from simserve.cost.context_parallel import ContextParallelAttention
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.engine.memory import MemoryRequest, plan_memory
from simserve.engine.memory_plan import MemoryPlan
from simserve.errors import InputError
from simserve.model.operators import AttentionOperator
from simserve.model.parallelism import Parallelism
from simserve.model.precision import resolve_precision
from simserve.model.stage import split_stages
from simserve.model.stage_operators import list_operators
from simserve.scenario.catalog import load_hardware, load_model
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.loader import load_scenario

H200 = "h200"
# Four KV heads: on eight ranks two hold each.
QWEN = "qwen3-235b-a22b"


def plan(ranks: int, model: str = QWEN, tp: int = 8, **options: int) -> MemoryPlan:
    request = MemoryRequest(tensor_parallel_size=tp, decode_context_parallel_size=ranks, **options)  # type: ignore[arg-type]
    return plan_memory(load_model(model, None), load_hardware(H200, None), request)


def timer(ranks: int, interleave: int = 1) -> ExplainableTimer:
    return build_timers(
        CostSpec(), load_model(QWEN, None), load_hardware(H200, None), tensor_parallel_size=8,
        decode_context_parallel_size=ranks, cp_kv_cache_interleave_size=interleave,
    )[0]  # fmt: skip


def test_ranks_that_share_a_sequence_hold_twice_as_many_tokens() -> None:
    replicated, shared = plan(1), plan(2)
    # The same memory on each rank, in as many pages of as many bytes; a block of the table is a page on each.
    assert (shared.num_gpu_blocks, shared.block_bytes) == (replicated.num_gpu_blocks, replicated.block_bytes)
    assert (replicated.block_size, shared.block_size) == (16, 32)
    assert shared.kv_tokens == 2 * replicated.kv_tokens


def test_a_latent_is_shared_by_all_ranks() -> None:
    deepseek = {1: plan(1, "deepseek-v3"), 8: plan(8, "deepseek-v3")}
    assert deepseek[8].kv_tokens == 8 * deepseek[1].kv_tokens


def test_a_longer_request_fits() -> None:
    short, long = plan(1, num_gpu_blocks_override=1001), plan(2, num_gpu_blocks_override=1001)
    assert (short.max_model_len, long.max_model_len) == (16_000, 32_000)


@pytest.mark.parametrize(
    ("ranks", "model", "tp", "message"),
    [
        (3, QWEN, 8, "does not divide tensor_parallel_size 8"),
        (4, QWEN, 8, r"KV heads of .* \(4\) are held by 2 ranks each"),
        (2, "llama-3.1-8b", 8, r"\(8\) are held by 1 ranks each"),
        (2, "llama-3.1-8b", 4, r"held by 1 ranks each"),
        (2, "gemma-3-1b", 4, "sliding windows"),
        (16, "deepseek-v3", 8, "does not divide"),
    ],
)
def test_what_vllm_refuses_is_refused(ranks: int, model: str, tp: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(ranks, model, tp)


def attention_operator(parallelism: Parallelism) -> AttentionOperator:
    shape = load_model(QWEN, None)
    precision = resolve_precision(
        shape, dtype=None, quantization=None, kv_cache_dtype=None, native_dtypes=frozenset()
    )
    stage = split_stages(shape.num_layers, 1)[0]
    return list_operators(shape, stage, precision, parallelism=parallelism).attention[0]


def test_a_rank_reads_its_share_for_the_heads_of_all() -> None:
    alone, shared = (attention_operator(Parallelism(8, decode_context_parallel_size=n)) for n in (1, 2))
    assert shared.kv_bytes_a_token == alone.kv_bytes_a_token / 2
    # Twice the heads over half the keys.
    assert shared.decode_flops_a_key == alone.decode_flops_a_key


def test_what_the_ranks_exchange() -> None:
    asked: list[tuple[str, float]] = []

    class Links:
        def seconds(self, operation: str, message_bytes: NDArray[np.float64]) -> NDArray[np.float64]:
            asked.append((operation, float(message_bytes[0])))
            return np.full_like(message_bytes, 1e-3)

    book = KernelCalibration(load_hardware(H200, None))
    # 64 heads of 128 on 8 ranks: two gather 16 heads of 2 bytes an element, and 2 x 16 sums of 4 bytes.
    operator = attention_operator(Parallelism(8, decode_context_parallel_size=2))
    priced = ContextParallelAttention(operator, book, "hopper", Links())  # type: ignore[arg-type]
    three, thousand = np.array([3.0]), np.array([1000.0])
    whole = priced.decode_s(three, thousand)
    assert asked == [
        ("all_gather", 3 * 16 * 128 * 2), ("all_gather", 3 * 2 * 16 * 4), ("reduce_scatter", 3 * 16 * 128 * 2)
    ]  # fmt: skip
    one, chunk = np.ones(1), np.array([512.0])
    assert priced.prefill_s(one, chunk, thousand)[0] > 3e-3
    assert asked[3] == ("all_gather", 512 * 16 * 128 * 2)
    # Beside a chunk the collectives are there already.
    assert priced.mixed_decode_s(three, thousand)[0] < whole[0] - 2.9e-3


def test_a_decode_runs_the_heads_of_all_sharing_ranks_over_a_share_of_the_keys() -> None:
    class NoLinks:
        def seconds(self, operation: str, message_bytes: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.zeros_like(message_bytes)

    book = KernelCalibration(load_hardware(H200, None))
    operator = attention_operator(Parallelism(8, decode_context_parallel_size=2))
    priced = ContextParallelAttention(operator, book, "hopper", NoLinks())  # type: ignore[arg-type]
    alone = attention_operator(Parallelism(8))
    assert (alone.heads, alone.kv_heads) == (8, 1)
    gathered = KernelAttention(replace(alone, heads=16), book, "hopper")
    many, contexts = np.array([512.0, 512.0]), np.array([2000.0, 8000.0])
    assert priced.decode_s(many, contexts) == pytest.approx(gathered.decode_s(many, contexts / 2 + 0.25))
    assert priced.kernel("decode") is not None
    assert priced.decode_s(many, contexts) != pytest.approx(
        KernelAttention(alone, book, "hopper").decode_s(many, contexts / 2 + 0.25), rel=1e-3
    )


def test_latent_attention_exchanges_latents_for_a_chunk_with_a_history() -> None:
    shape = load_model("deepseek-v3", None)
    precision = resolve_precision(
        shape, dtype=None, quantization=None, kv_cache_dtype=None, native_dtypes=frozenset()
    )
    stage = split_stages(shape.num_layers, 1)[0]
    sharing = Parallelism(8, decode_context_parallel_size=8)
    operator = list_operators(shape, stage, precision, parallelism=sharing).attention[0]
    asked: list[tuple[str, float]] = []

    class Links:
        def seconds(self, operation: str, message_bytes: NDArray[np.float64]) -> NDArray[np.float64]:
            asked.append((operation, float(message_bytes[0])))
            return np.zeros_like(message_bytes)

    book = KernelCalibration(load_hardware(H200, None))
    priced = ContextParallelAttention(operator, book, "hopper", Links())  # type: ignore[arg-type]
    priced.prefill_s(np.ones(1), np.array([512.0]), np.array([1000.0]))
    priced.decode_s(np.array([4.0]), np.array([1000.0]))
    gather = ("all_gather", 4.0 * 128 * 576 * 2)
    assert asked == [
        ("all_gather", 1000.0 * 576 * 2), gather, ("all_gather", 4.0 * 128 * 8 * 4),
        ("reduce_scatter", 4.0 * 128 * 512 * 2),
    ]  # fmt: skip


def attention_s(priced: ExplainableTimer, decodes: int, context: int) -> float:
    rows = priced.explain(decodes, decodes * context, 0, [], decodes)
    return sum(row.seconds for row in rows if row.operator == "attention_decode")


def test_long_contexts_decode_faster_and_short_ones_pay_for_the_exchange() -> None:
    alone, shared = timer(1), timer(2)
    assert attention_s(shared, 64, 32_768) < 0.65 * attention_s(alone, 64, 32_768)
    # A kernel must not read its share faster than the memory is.
    least = 94 * 64 * 32_768 * 2 * 128 * 2 / 2 / load_hardware(H200, None).memory_bandwidth_bytes_per_s
    assert attention_s(shared, 64, 32_768) >= least
    long, short = (64, 64 * 32_768), (1, 256)
    assert shared.decode_ns(*long, 0, 1)[0] < alone.decode_ns(*long, 0, 1)[0]
    assert shared.decode_ns(*short, 0, 1)[0] > alone.decode_ns(*short, 0, 1)[0]


def test_the_largest_share_of_a_context() -> None:
    for ranks, interleave in ((2, 1), (2, 16)):
        sharing = Parallelism(8, decode_context_parallel_size=ranks, cp_kv_cache_interleave_size=interleave)
        operator = attention_operator(sharing)
        # Closed form against counting: tokens of the first rank, mean over all ends of the last round.
        period = ranks * interleave
        contexts = [1000 * period + rest for rest in range(period)]
        first = [sum(token // interleave % ranks == 0 for token in range(context)) for context in contexts]
        mean = float(np.mean(operator.local_context(np.array(contexts, np.float64))))
        # The closed form takes the rest as even over [0, period]: half a token less at either end.
        assert mean == pytest.approx(np.mean(first), abs=0.51)


def test_the_scheduler_counts_blocks_of_all_sharing_ranks() -> None:
    overrides = [
        "model=qwen3-235b-a22b", "pools.0.hardware=h200", "pools.0.engine.tensor_parallel_size=8",
        "pools.0.engine.decode_context_parallel_size=2",
    ]  # fmt: skip
    planned = plan_engine(load_scenario("scenarios/quickstart.yaml", overrides), 0)
    assert planned.config.block_size == 32
    assert planned.config.num_gpu_blocks == planned.memory.num_gpu_blocks
    assert "32 tokens" in str(planned.memory.lines()[-1])


def test_an_interleave_that_splits_a_block_unevenly_is_refused() -> None:
    with pytest.raises(InputError, match="does not divide block_size"):
        load_scenario("scenarios/quickstart.yaml", ["pools.0.engine.cp_kv_cache_interleave_size=3"])
