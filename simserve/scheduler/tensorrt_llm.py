"""TensorRT-LLM: in-flight batching; who may start is decided by KV capacity, who runs by the token budget.

The rules are those of its C++ batch manager of 2025 (`cpp/tensorrt_llm/batch_manager/`:
`capacityScheduler.cpp` at commit 02a10fe, `microBatchScheduler.cpp` at 0a949d3, `getNeededBlocksOneStep` and
`getRemainingBlocksToCompletion` of `kvCacheManager.cpp`), for one beam, without LoRA, encoders and drafts.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, ClassVar

from simserve.errors import InputError, UnknownNameError
from simserve.kvcache.prefix_keys import key_spans, token_segments
from simserve.registry import register
from simserve.scheduler.base import BaseScheduler
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.context_chunks import cut_equally, cut_in_order
from simserve.scheduler.decode_stretch import BUDGET, MEMORY, OTHER, SEATS
from simserve.scheduler.sequence import RUNNING, Sequence

CAPACITY_POLICIES = ("GUARANTEED_NO_EVICT", "MAX_UTILIZATION")
CHUNKING_POLICIES = ("FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS")


@register("engine", "tensorrt-llm")
class TensorRTLLMScheduler(BaseScheduler):
    """In-flight batching, GUARANTEED_NO_EVICT or MAX_UTILIZATION (TensorRT-LLM's batch manager).

    GUARANTEED_NO_EVICT starts a request if the blocks that all started ones may still need, up to their
    max_tokens, and its own are free: nobody ever loses his memory. MAX_UTILIZATION starts it if the next step
    fits, and pauses the latest started when it does not; they are computed again. A request whose first
    missing block is being computed by another one waits to find it cached.

    Options: `capacity_scheduler_policy`; `context_chunking_policy`, FIRST_COME_FIRST_SERVED or
    EQUAL_PROGRESS, where `enable_chunked_prefill` (its enable_chunked_context) lets prompts be cut, at
    multiples of a block.
    """

    option_defaults: ClassVar = {
        "capacity_scheduler_policy": "GUARANTEED_NO_EVICT",
        "context_chunking_policy": "FIRST_COME_FIRST_SERVED",
    }
    unused_keys: ClassVar = ("long_prefill_token_threshold", "scheduler_reserve_full_isl")
    loads: ClassVar = ("blocking", "layerwise", "async")
    # The defaults of `max_batch_size` and `max_num_tokens` (documentation, "Tuning Max Batch Size and Max Num
    # Tokens").
    default_limits: ClassVar = {"max_num_seqs": 2048, "max_num_batched_tokens": 8192}

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        super().__init__(config, jump=jump, **options)
        for name, valid in (
            ("capacity_scheduler_policy", CAPACITY_POLICIES),
            ("context_chunking_policy", CHUNKING_POLICIES),
        ):
            if self.options[name] not in valid:
                raise UnknownNameError(name, str(self.options[name]), valid)
        if config.enable_chunked_prefill and config.max_num_batched_tokens < config.block_size:
            raise InputError(
                f"max_num_batched_tokens {config.max_num_batched_tokens} is below block_size "
                f"{config.block_size}: prompts are cut at multiples of a block, so no long one could begin; "
                "expected a larger budget, or enable_chunked_prefill: false"
            )
        self._never_evicts = self.options["capacity_scheduler_policy"] == "GUARANTEED_NO_EVICT"
        # Whether somebody could have begun in this step, but waits for another one's blocks.
        self._awaits_hits = False

    def decide(self) -> None:
        """Choose for whom there are blocks, then fill the step with them."""
        self._awaits_hits = False
        self._fill(self._fit_to_the_end() if self._never_evicts else self._fit_next_step())
        if self._awaits_hits:
            self.admission = OTHER

    def decode_batch_stays(self) -> bool:
        """A decode batch stays as long as nobody can join it."""
        order = self.order
        if order is not None and order.dynamic and not self._never_evicts and len(self.waiting):
            return False  # whoever waits may come before one that runs
        return self.nobody_can_join()

    # -- capacity ------------------------------------------------------------------------------------------

    def _fit_to_the_end(self) -> list[Sequence]:
        """Return the prompts under way, and those waiting whose blocks are sure to suffice to their end."""
        fitting = self.prefills()
        seats = self.config.max_num_seqs - len(self.running)
        if not len(self.waiting):
            return fitting
        room = self.pool.num_free - sum([self._blocks_to_end(each) for each in self.running])
        computing = self._blocks_being_computed()
        for sequence in self.waiting:
            if not seats:
                self._block(SEATS)
                break
            if self._waits_for_hit(sequence, computing):
                continue
            room -= self._blocks_to_end(sequence)
            if room < 0:
                self._block(MEMORY)
                break
            seats -= 1
            fitting.append(sequence)
        return fitting

    def _fit_next_step(self) -> list[Sequence]:
        """Return, in order of arrival, those whose next step fits; the latest started are paused for it."""
        fitting: list[Sequence] = []
        needed = joining = 0
        computing = self._blocks_being_computed()
        coming = deque(self._by_rank())
        while coming:
            sequence = coming[0]
            joins = sequence.status != RUNNING
            if joins and self._waits_for_hit(sequence, computing):
                coming.popleft()
                continue
            need = needed + self._blocks_of_next_step(sequence)
            has_seat = not joins or len(self.running) + joining < self.config.max_num_seqs
            if has_seat and need <= self.pool.num_free:
                needed = need
                joining += joins
                fitting.append(coming.popleft())
                continue
            last = next((each for each in reversed(coming) if self._can_pause(each)), None)
            if last is None:
                self._block(MEMORY if has_seat else SEATS)
                break
            while coming.pop() is not last:
                pass
            self.preempt(last)
        return fitting

    def _by_rank(self) -> list[Sequence]:
        """Return those that run and the first of the queue, by arrival, or as the queue is ordered."""
        return sorted([*self.running, *islice(self.waiting, self.config.max_num_seqs)], key=self._rank)

    def _rank(self, sequence: Sequence) -> tuple[Any, float, int]:
        key = None if self.order is None else self.order.key(sequence)
        return key, sequence.arrival_order, sequence.id

    def _can_pause(self, sequence: Sequence) -> bool:
        return sequence.status == RUNNING and not sequence.inflight

    def _block(self, admission: int) -> None:
        self.admission = admission
        if admission == MEMORY:
            self.note_shortage()
        self.blocked_stream = None

    def _blocks_to_end(self, sequence: Sequence) -> int:
        """Count the blocks that a request may still take, up to its max_tokens."""
        request, size = sequence.request, self.cache.block_size
        tokens = min(request.prompt_tokens + request.max_tokens, self.config.max_model_len)
        held = self.cache.capacity_tokens(sequence) // size if sequence.status == RUNNING else 0
        return int(-(-tokens // size) - held)

    def _blocks_of_next_step(self, sequence: Sequence) -> int:
        """Count the blocks of the whole prompt if it is to begin, else of the next token.

        With several batches in flight a decoder needs room for two.
        """
        size = self.cache.block_size
        if sequence.status != RUNNING:
            return int(-(-sequence.known // size))
        if not sequence.decoding:
            return 0  # those of the whole prompt were taken when it began
        most = sequence.request.prompt_tokens + sequence.request.max_tokens
        tokens = min(sequence.computed + (2 if self._is_pipelined else 1), most)
        return max(0, int(-(-tokens // size) - self.cache.capacity_tokens(sequence) // size))

    # -- prefix hits ---------------------------------------------------------------------------------------

    def _blocks_being_computed(self) -> set[int]:
        """Return the keys of the first blocks that prompts under way have not computed yet."""
        if not self.config.enable_prefix_caching:
            return set()
        keys = [self._missing_block(each) for each in self.running if not each.decoding]
        return {key for key in keys if key is not None}

    def _waits_for_hit(self, sequence: Sequence, computing: set[int]) -> bool:
        """Whether another one computes the first block that a request misses; else notes that it will."""
        if not self.config.enable_prefix_caching:
            return False
        key = self._missing_block(sequence)
        if key in computing:
            self._awaits_hits = True
            return True
        if key is not None:
            computing.add(key)
        return False

    def _missing_block(self, sequence: Sequence) -> int | None:
        """Return the key of the first block that is not cached, None if no other request can have it."""
        size = self.cache.block_size
        block = self.cache.lookup(sequence, sequence.known)[1] // size
        if block >= sequence.request.shared_tokens // size:
            return None
        spans = sequence.key_spans
        if spans is None:
            spans = sequence.key_spans = key_spans(token_segments(sequence.request), size)
        return next((origin + (block + 1) * size for origin, end in spans if block < end), None)

    # -- the step ------------------------------------------------------------------------------------------

    def _fill(self, fitting: list[Sequence]) -> None:
        """Give tokens in order while the budget lasts; chunked prompts share what decodes leave."""
        prompts: list[Sequence] = []
        if self._never_evicts or (self.config.enable_chunked_prefill and not self._is_pipelined):
            self.decode()  # all decoders fit, and come before prompts
            fitting = [each for each in fitting if not each.decoding]
        budget = self.budget
        for sequence in fitting:
            if sequence.inflight:
                continue
            if sequence.decoding:
                if not self.run(sequence):
                    break
                budget -= 1
            elif self.config.enable_chunked_prefill:
                prompts.append(sequence)
            elif sequence.known > budget or not self._begin(sequence, sequence.known):
                self.admission = BUDGET
                break
            else:
                budget -= sequence.known  # hits count too
        for sequence, tokens in zip(prompts, self._cut(prompts, budget), strict=True):
            if tokens and not self._begin(sequence, tokens):
                break

    def _begin(self, sequence: Sequence, tokens: int) -> bool:
        """Run the next chunk of a prompt; a new one takes the blocks of all of it."""
        if sequence.status == RUNNING:
            return self.run(sequence, tokens)
        return self.admit(sequence, tokens, hold_tokens=sequence.known)

    def _cut(self, prompts: list[Sequence], budget: int) -> list[int]:
        """Return the chunk of each prompt: all that is left of it if that fits, else whole blocks."""
        left = [each.known - each.computed for each in prompts]
        if sum(left) <= budget:
            return left
        self.admission = BUDGET
        cut = cut_equally if self.options["context_chunking_policy"] == "EQUAL_PROGRESS" else cut_in_order
        return cut(left, budget, self.cache.block_size)
