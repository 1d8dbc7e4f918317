"""A scheduler by hand: add requests, step, and see who ran. No clock, no times, no model."""

from __future__ import annotations

from typing import Any

from simserve import registry
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.testing.invariants import check_decision, check_population
from simserve.workload.request import Request

# Options of `SchedulerConfig` where a script does not say otherwise: small enough to count by hand.
_DEFAULTS = {
    "num_gpu_blocks": 65,
    "block_size": 4,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 16,
    "max_model_len": 64,
    "enable_prefix_caching": False,
}


class Script:
    """Drives a scheduler step by step and checks its invariants after each.

    Args:
        kind: A registered engine kind, `package.module:Class`, or a class.
        options: Options of `SchedulerConfig` by name; all others go to the class.

    Attributes:
        scheduler: The scheduler.
        config: Its options.
        finished: Requests that have completed, in order.
        batch: What the last step ran, None if nothing.
    """

    def __init__(self, kind: str | type, **options: Any) -> None:
        policy = registry.lookup("engine", kind) if isinstance(kind, str) else kind
        fields = SchedulerConfig.__dataclass_fields__
        known = {name: value for name, value in options.items() if name in fields}
        self.config = SchedulerConfig(**{**_DEFAULTS, **known})
        own = {name: value for name, value in options.items() if name not in fields}
        # Without jumps every sequence is kept by itself, so that each can be seen.
        self.scheduler: Any = policy(self.config, jump=False, **own)
        self.finished: list[int] = []
        self.batch: Batch | None = None
        self._added: list[int] = []
        self._aborted: list[int] = []

    def add(self, prompt_tokens: int, output_tokens: int, *, at_s: float = 0.0, **fields: Any) -> int:
        """Add a request; returns its id, which counts from 0.

        Args:
            prompt_tokens, output_tokens: Its lengths.
            at_s: When it arrives, for schedulers that look at the time.
            fields: Other fields of `Request` (priority, tenant, max_tokens, ...).
        """
        number = len(self._added)
        request = Request(
            **{
                "id": number,
                "arrival_ns": round(at_s * 1e9),
                "prompt": (),
                "prompt_tokens": prompt_tokens,
                "output_tokens": output_tokens,
                "max_tokens": output_tokens,
                "output_stream": 1_000_000 + number,
                **fields,
            }
        )
        self.scheduler.add(request, float(number), request.arrival_ns)
        self._added.append(number)
        return number

    def abort(self, request_id: int) -> None:
        """Let a client give up."""
        if self.scheduler.abort(request_id) is not None:
            self._aborted.append(request_id)

    def step(self, now_s: float = 0.0) -> dict[int, int]:
        """Schedule a step and complete it; returns the tokens that each request computed in it.

        Raises:
            IntegrityError: If an invariant does not hold.
        """
        scheduler = self.scheduler
        self.batch = batch = scheduler.schedule(round(now_s * 1e9))
        check_decision(scheduler, self.config, batch)
        ran: dict[int, int] = {}
        if batch is not None:
            ran = {sequence.request.id: 1 for sequence in batch.decoders}
            ran |= {entry.sequence.request.id: entry.tokens for entry in batch.entries}
            self.finished += [sequence.request.id for sequence in scheduler.complete()]
        check_population(scheduler, self._added, self.finished, self._aborted)
        return ran

    def run(self, most_steps: int = 10_000) -> list[dict[int, int]]:
        """Step until every request has ended, or nothing runs any more; returns what each step ran."""
        steps: list[dict[int, int]] = []
        while self.scheduler.sequences and len(steps) < most_steps:
            ran = self.step()
            if not ran:
                break
            steps.append(ran)
        return steps

    @property
    def preempted(self) -> list[int]:
        """Requests that lost their seat in the last step."""
        return [sequence.request.id for sequence in self.scheduler.preempted]
