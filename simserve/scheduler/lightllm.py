"""LightLLM: a request is admitted if the KV tokens that all will need at their worst moment fit.

Gong et al., "Past-Future Scheduler for LLM Serving under SLA Guarantees", ASPLOS 2025; the details are those
of its code without chunked prefill (github.com/ModelTC/lightllm, `lightllm/server/router/`: `manager.py`,
`pause_strategy.py`, `req_queue/base_queue.py`, `req_queue/continues_batch/impl.py` at commit 051a2bc, and
`PastFutureQueue`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from simserve.errors import InputError
from simserve.registry import lookup, register
from simserve.scheduler.base import BaseScheduler
from simserve.scheduler.batch import Usage
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.decode_stretch import BUDGET, MEMORY, SEATS
from simserve.scheduler.output_estimates import OutputEstimate
from simserve.scheduler.sequence import Sequence


@register("engine", "lightllm")
class LightLLMScheduler(BaseScheduler):
    """Admission by the estimated peak of future KV tokens (LightLLM's Past-Future scheduler, ASPLOS 2025).

    Whole prompts run in steps of their own; after `router_max_wait_tokens` decode steps the queue is looked
    at again. Where the estimate was too low, the latest arrived request is paused and computed again. The
    real engine holds KV token by token (`block_size: 1`); with larger blocks the estimate reckons with each
    request's last block.

    Options: `length_estimate`, history (drawn from the lengths of the last 200 finished requests, given what
    a request has got), ema (their moving average) or max_tokens; `router_max_wait_tokens`;
    `router_max_new_token_len`, the length that stands for the history before there is any;
    `router_token_ratio`, the share of KV memory in use from which on ema gives way to max_tokens.
    """

    option_defaults: ClassVar = {
        "length_estimate": "history",
        "router_max_wait_tokens": 6,
        "router_max_new_token_len": 1024,
        "router_token_ratio": 0.85,
    }
    unused_keys: ClassVar = ("long_prefill_token_threshold", "scheduler_reserve_full_isl")
    fixed_keys: ClassVar = {**BaseScheduler.fixed_keys, "enable_chunked_prefill": False}

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        super().__init__(config, jump=jump, **options)
        for name in ("router_max_wait_tokens", "router_max_new_token_len"):
            value = self.options[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name}: expected a whole number of at least 1, got {value!r}")
        estimate = lookup("length_estimate", self.options["length_estimate"])
        self._estimate: OutputEstimate = estimate(self.options)
        self._patience: int = self.options["router_max_wait_tokens"]
        # Decode steps since the queue was last looked at.
        self._waited = 0

    def decide(self) -> None:
        """A step of new prompts if it is time for one and any may come in; else everybody decodes."""
        if self._waited >= self._patience or not self.running:
            self._waited = 0
            self._admit_prompts()
            if self._batch.entries:
                return
        self.decode()
        self._waited = 1 if self.preempted else self._waited + 1
        if len(self.waiting) and len(self.running) >= self.config.max_num_seqs:
            self.admission = SEATS

    def _admit_prompts(self) -> None:
        """Admit in order of arrival while seats, the prefill budget and the estimated peak allow it."""
        if not len(self.waiting) or not self.has_seat():
            return
        capacity = (self.pool.num_blocks - 1) * self.cache.block_size
        used = capacity - self.pool.num_free * self.cache.block_size
        estimate = self._estimate
        limit = capacity * (1 - estimate.reserved_share)
        estimate.begin(
            self.steps, self.running, is_busy=used >= self.options["router_token_ratio"] * capacity
        )
        prompts = 0
        while len(self.waiting) and self.has_seat():
            head = self.waiting.head()
            prompts += head.known
            if prompts > self.config.max_num_batched_tokens:
                self.admission = BUDGET
                break
            if not estimate.fits(head, self.cache.block_size, limit) and not self._fits_alone(head):
                self.admission = MEMORY
                self.note_shortage()
                break
            if not self.admit(head, whole=True, hold_tokens=head.known):
                break

    def _fits_alone(self, head: Sequence) -> bool:
        """Whether nobody else runs and the head has room to its end (what has none is refused there)."""
        tokens = min(head.request.prompt_tokens + head.request.max_tokens, self.config.max_model_len)
        return not self.running and -(-tokens // self.cache.block_size) < self.pool.num_blocks

    def choose_victim(self, sequence: Sequence) -> Sequence:
        """Return who is paused so that `sequence` can decode: the latest arrived."""
        if self.order is not None:
            return self.order.victim(self.ready())
        return max(self.ready(), key=lambda each: (each.arrival_order, each.id))

    def _finish(self, sequence: Sequence, step: int) -> None:
        """End a sequence; its length is part of the past from now on."""
        self._estimate.record(sequence.outputs)
        super()._finish(sequence, step)

    # -- stretches -----------------------------------------------------------------------------------------

    def decode_batch_stays(self) -> bool:
        """Between two looks at the queue a decode batch stays; `horizon` says when the next one is."""
        return True

    def horizon(self, owed: int = 0) -> int:
        """Return how many completions can pass: with someone waiting, up to the next look at the queue."""
        steps = super().horizon(owed)
        if steps > 0 and len(self.waiting) and self.admission != SEATS:
            steps = min(steps, self._patience - self._waited - owed)
        return max(steps, -owed)

    def advance(self, steps: int, owed: int = 0, usage: list[Usage] | None = None) -> tuple[Usage, Usage]:
        """Pass `steps` completions and `owed + steps` schedules at once, as `horizon` has promised."""
        held = super().advance(steps, owed, usage)
        self._waited = (self._waited - 1 + steps + owed) % self._patience + 1
        return held
