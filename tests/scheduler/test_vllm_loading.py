"""What vLLM does with tiers behind its KV pool, rule by rule, on loads small enough to follow by hand."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.errors import InputError
from simserve.kvcache.cache_plan import CachePlan, Load, TierPlan
from simserve.kvcache.tier import TierSpec
from simserve.scheduler.batch import Batch, Landing, Transfer
from simserve.scheduler.config import KVGroup, SchedulerConfig
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.vllm import VllmScheduler
from simserve.workload.request import Request, Segment

CHUNK = 8
STEP_NS = 10
LOAD_NS = 25


class FixedLinks:
    """Every transfer takes `LOAD_NS`."""

    def start(self, transfer: Transfer, now_ns: int) -> Landing:
        """Land after a while."""
        return Landing(now_ns, now_ns + LOAD_NS)

    def free_at(self, path: int) -> int:
        """Never busy."""
        return 0

    def landed_at(self, ticket: int) -> int:
        """Landed long ago."""
        return 0

    def forget_landed(self, now_ns: int) -> None:
        """Nothing is kept."""


class Engine:
    """A scheduler with 19 blocks of 4 tokens and tiers of chunks of 8, a byte a token, stepped by hand."""

    def __init__(self, load: Load = "async", **options: Any) -> None:
        tiers = (
            TierSpec("host", 40 * CHUNK, 1e9),
            TierSpec("nvme", 40 * CHUNK, 1e9, write="second_use"),
        )
        plan = TierPlan(tiers, (False, True), 1, chunk_tokens=CHUNK, load=load, layers=2)
        defaults: dict[str, Any] = {
            "num_gpu_blocks": 20,
            "block_size": 4,
            "max_num_seqs": 4,
            "max_num_batched_tokens": 64,
            "max_model_len": 76,
            "cache": CachePlan(tiers=plan),
        }
        self.scheduler = VllmScheduler(SchedulerConfig(**{**defaults, **options}), observe=True)
        connector = self.scheduler.connector
        assert connector is not None
        connector.links = FixedLinks()
        self.now_ns = 0
        self.batch: Batch | None = None
        self._added = 0

    def add(self, stream: int, prompt: int, output: int = 2, **fields: Any) -> Sequence:
        """Queue a request with the first tokens of a stream as its prompt."""
        number = self._added
        self._added += 1
        request = Request(
            number, 0, (Segment(stream, 0, prompt),), prompt, output, output, 100 + number,
            shared_tokens=prompt + output, **fields,
        )  # fmt: skip
        return self.scheduler.add(request, float(number))

    def step(self) -> dict[int, int]:
        """One schedule and its update; returns tokens scheduled by request id."""
        self.batch = self.scheduler.schedule(self.now_ns)
        self.now_ns += STEP_NS
        scheduled = {}
        if self.batch is not None:
            scheduled = {number: tokens for number, tokens, _ in self.batch.observed.scheduled}
            self.scheduler.complete(self.batch)
        self.scheduler.check_integrity()
        return scheduled

    def finish(self) -> None:
        """Step until nobody is left."""
        while self.scheduler.has_unfinished:
            self.step()

    def store(self, stream: int, tokens: int) -> None:
        """Let the tier, and not the GPU, have the first tokens of a stream."""
        self.add(stream, tokens, 1)
        self.finish()
        self.add(-1 - self._added, 75, 1)  # it takes every block
        self.finish()

    @property
    def used(self) -> int:
        """Blocks in use."""
        return self.scheduler.pool.num_blocks - 1 - self.scheduler.pool.num_free

    @property
    def read_bytes(self) -> int:
        """What the tier has been read."""
        counts = self.scheduler.tier_counts
        assert counts is not None
        return counts["host"].read_bytes


def test_a_request_waits_for_its_load_with_blocks_and_without_a_seat() -> None:
    engine = Engine(max_num_seqs=2)
    engine.store(5, 16)
    decoder, loader = engine.add(1, 4, 9), engine.add(5, 30)
    first, second = decoder.id, loader.id
    assert engine.step() == {first: 4}  # 16 of 30 tokens are on their way: until 25 ns from now
    assert engine.used == 1 + 4
    assert engine.scheduler.running == [decoder]
    assert list(engine.scheduler.waiting) == [loader]
    late = engine.add(7, 4)
    assert engine.step() == {first: 1, late.id: 4}  # the second seat is free
    assert engine.step() == {first: 1, late.id: 1}
    assert engine.step() == {first: 1, second: 14}  # landed; the late one has left its seat
    assert loader.cached_tokens == 16
    assert engine.read_bytes == 16
    assert engine.batch is not None
    assert engine.batch.transfers is None
    engine.finish()
    assert engine.used == 0


def test_the_engine_is_told_when_to_look_again() -> None:
    engine = Engine()
    engine.store(5, 16)
    engine.add(5, 30)
    begun_ns = engine.now_ns
    assert engine.step() == {}
    assert engine.scheduler.wake_at(engine.now_ns) == begun_ns + LOAD_NS
    engine.now_ns = begun_ns + LOAD_NS
    assert sum(engine.step().values()) == 14
    assert engine.scheduler.wake_at(engine.now_ns) is None


def test_of_a_prompt_that_lies_in_a_tier_whole_the_last_token_is_computed() -> None:
    engine = Engine()
    engine.store(5, 16)
    loader = engine.add(5, 16)
    steps = [engine.step() for _ in range(4)]
    assert steps == [{}, {}, {}, {loader.id: 1}]
    assert loader.cached_tokens == 15


@pytest.mark.parametrize(("load", "layers"), [("blocking", 0), ("layerwise", 2)])
def test_a_step_that_waits_admits_at_once(load: Load, layers: int) -> None:
    engine = Engine(load)
    engine.store(5, 16)
    whole, longer = engine.add(5, 16), engine.add(5, 30)
    # The second finds what the first has brought: it is published with the step.
    assert engine.step() == {whole.id: 1, longer.id: 14}
    assert engine.batch is not None
    assert engine.batch.transfers is not None
    assert [(each.size_bytes, each.awaited, each.layers) for each in engine.batch.transfers] == [
        (16, True, layers)
    ]
    assert engine.read_bytes == 16


def test_what_the_gpu_has_is_not_loaded() -> None:
    engine = Engine()
    engine.add(5, 16, 1)
    engine.finish()
    longer = engine.add(5, 30)
    assert engine.step() == {longer.id: 14}
    assert engine.read_bytes == 0


def test_less_than_a_chunk_beyond_the_gpu_is_computed() -> None:
    engine = Engine()
    engine.store(5, 16)
    engine.add(5, 13, 9)
    assert engine.step() == {}  # 8 of 13 tokens are loaded
    engine.now_ns += LOAD_NS
    assert sum(engine.step().values()) == 5
    # The GPU has 12 tokens of the stream, the tier 4 more: half a chunk.
    longer = engine.add(5, 17)
    assert engine.step()[longer.id] == 5
    assert engine.read_bytes == 8


def test_what_another_is_loading_is_not_loaded_again() -> None:
    engine = Engine()
    engine.store(5, 16)
    one, other = engine.add(5, 20), engine.add(5, 24)
    private = engine.add(8, 4)
    assert engine.step() == {private.id: 4}  # both are passed over
    assert engine.used == 4 + 1
    engine.now_ns += LOAD_NS
    # The second finds what was loaded, and the block that the first computes.
    assert engine.step() == {private.id: 1, one.id: 4, other.id: 4}
    assert other.cached_tokens == 20
    assert engine.read_bytes == 16


def test_who_was_passed_over_comes_before_who_waits() -> None:
    engine = Engine(max_num_seqs=1)
    engine.store(5, 16)
    loader = engine.add(5, 20, 1)
    assert engine.step() == {}
    late = engine.add(1, 4, 1)
    engine.now_ns += LOAD_NS
    assert list(engine.scheduler.waiting) == [loader, late]
    assert engine.step() == {loader.id: 4}
    assert engine.step() == {late.id: 4}


def test_by_priority_the_better_head_comes_first() -> None:
    engine = Engine(max_num_seqs=1, policy="priority")
    engine.store(5, 16)
    loader = engine.add(5, 20, 1, priority=1)
    assert engine.step() == {}
    urgent = engine.add(1, 4, 1, priority=0)
    engine.now_ns += LOAD_NS
    assert list(engine.scheduler.waiting) == [urgent, loader]
    assert engine.step() == {urgent.id: 4}
    assert engine.step() == {loader.id: 4}


def test_a_load_leaves_the_blocks_that_others_still_need() -> None:
    engine = Engine(long_prefill_token_threshold=20, scheduler_reserve_full_isl=False)
    engine.store(5, 24)
    prefill, loader = engine.add(1, 56, 1), engine.add(5, 32)
    # 5 of 14 blocks are taken and 9 are still needed; 14 are free, and the load asks for 6.
    assert engine.step() == {prefill.id: 20}
    assert engine.used == 5
    assert engine.step() == {prefill.id: 20}
    assert engine.step() == {prefill.id: 16}
    assert engine.used == 0
    assert engine.step() == {}
    assert engine.used == 6
    assert loader.computed == 24


def test_a_loaded_request_waits_for_the_rest_of_its_blocks_and_keeps_its_own() -> None:
    engine = Engine(scheduler_reserve_full_isl=False)
    engine.store(5, 16)
    loader = engine.add(5, 40, 1)
    assert engine.step() == {}
    decoder = engine.add(1, 55, 6)
    assert engine.step() == {decoder.id: 55}
    assert engine.step() == {decoder.id: 1}
    engine.now_ns += LOAD_NS
    assert engine.step() == {decoder.id: 1}  # 4 and 15 blocks: none is left for the other 24 tokens
    assert engine.scheduler.wake_at(engine.now_ns) is None
    while decoder.id in engine.scheduler.sequences:
        engine.step()
    assert engine.step() == {loader.id: 24}


def test_an_aborted_load_keeps_its_blocks_until_it_lands() -> None:
    engine = Engine()
    engine.store(5, 16)
    loader = engine.add(5, 20)
    assert engine.step() == {}
    assert engine.scheduler.abort(loader.id) is loader
    assert not engine.scheduler.has_unfinished
    assert engine.used == 4
    engine.add(1, 4, 9)
    engine.step()
    assert engine.used == 4 + 1
    engine.now_ns += LOAD_NS
    engine.step()
    assert engine.used == 2


def test_a_preempted_request_is_loaded_and_not_computed_again() -> None:
    engine = Engine(num_gpu_blocks=9, max_model_len=32)
    elder, younger = engine.add(1, 14, 12), engine.add(2, 14, 12)
    while not younger.preemptions:
        engine.step()
    while elder.id in engine.scheduler.sequences:
        engine.step()  # it takes three of the four blocks that the younger had
    assert engine.step() == {}
    assert younger.known == 17
    assert engine.read_bytes == 16
    engine.now_ns += LOAD_NS
    assert engine.step() == {younger.id: 1}


def test_the_tiers_get_prompts_as_they_are_computed_and_outputs_at_the_end() -> None:
    engine = Engine(max_num_batched_tokens=12)
    engine.add(1, 18, 15)
    counts = engine.scheduler.tier_counts
    assert counts is not None
    written = []
    while engine.scheduler.has_unfinished:
        engine.step()
        written.append(counts["host"].written_bytes)
    assert written[:3] == [8, 16, 16]
    # 18 + 15 tokens, of which the last is never computed.
    assert written[-1] == 32


def test_what_was_loaded_is_not_offered_again() -> None:
    engine = Engine()
    engine.store(5, 16)
    engine.add(5, 20, 1)
    engine.finish()
    counts = engine.scheduler.tier_counts
    assert counts is not None
    assert engine.read_bytes == 16
    assert counts["nvme"].written_bytes == 0  # to be offered would be the second use


@pytest.mark.parametrize(
    ("options", "message"),
    [({"block_size": 3}, "no multiple of block_size"), ({"kv_groups": (KVGroup(12),)}, "sliding-window")],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Engine(**options)
