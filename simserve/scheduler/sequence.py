"""A request inside a scheduler: what it has computed, which blocks it holds, when it ran."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from simserve.kvcache.prefix_keys import Span
from simserve.kvcache.run import Run
from simserve.workload.request import Request

if TYPE_CHECKING:
    from simserve.scheduler.vllm.cohort import Cohort

WAITING, RUNNING, PREEMPTED, FINISHED = range(4)


class Sequence:
    """Mutable state of one request. The scheduler owns and mutates it; the engine reads it.

    Attributes:
        known: Tokens whose value is known: prompt and confirmed outputs.
        computed: Tokens whose KV is computed or being computed (counted when scheduled).
        inflight: Output tokens that asynchronous scheduling expects from batches in flight.
        drafts: Speculative tokens to verify in the next step.
        outputs: Confirmed output tokens.
        limit: Outputs at which it ends: the first of its EOS, max_tokens and max_model_len.
        foreseen: Whether asynchronous scheduling sees that end coming (an EOS it does not).
        arrived_ns: When it reached its engine, where the scheduler keeps that.
        order: Grows with every admission to the running list.
        runs, sizes, tracked, private, shared_limit, key_spans, published: The cache's table (see
            `kvcache.run.Table`); `keys` is that of `kvcache.grouped`.
        first_step, first_token_step, finish_step: Numbers of steps, -1 before they happen.
        token_steps: Step of every output, where they are not consecutive; else None.
        spans: What it did, step ranges, once that is more than one prefill and one decode; else None.
        decoding: Whether it has sampled since it was last admitted.
        tenure_start, tenure_hit: Step of its last admission, and the tokens it found cached then.
        join_step, join_tokens: The step that sampled first since then, and the tokens computed by then.
        cohort, join_ordinal, steady_step, steady_tokens, finish_ordinal: Its place in a group of steady
            decoders, see `vllm.cohort`.
        owner: The engine's own record of the request; the scheduler never looks at it.
    """

    # Class attributes are the defaults: making a sequence sets only what differs.
    status = WAITING
    computed = 0
    arrived_ns = 0
    inflight = 0
    drafts = 0
    outputs = 0
    order = -1
    preemptions = 0
    cached_tokens = -1
    verified_steps = 0
    runs: list[Run] = []  # noqa: RUF012 - replaced before it is mutated
    sizes: list[int] = []  # noqa: RUF012 - replaced before it is mutated
    tracked = 0
    private = 0
    shared_limit = 0
    key_spans: list[Span] | None = None
    keys: list[int] = []  # noqa: RUF012 - replaced, never mutated
    published = 0
    first_step = -1
    first_token_step = -1
    finish_step = -1
    decoding = False
    tenure_start = -1
    tenure_hit = 0
    join_step = -1
    join_tokens = 0
    join_ordinal = 0
    steady_step = -1
    steady_tokens = 0
    finish_ordinal = 0
    token_steps: array[int] | None = None
    spans: list[tuple[str, int, int, int]] | None = None
    cohort: Cohort | None = None
    owner: Any = None

    def __init__(self, request: Request, arrival_order: float, max_model_len: int) -> None:
        self.request = request
        self.arrival_order = arrival_order
        self.known = request.prompt_tokens
        limit = request.output_tokens
        room = max_model_len - request.prompt_tokens
        if limit > room:
            limit = room if room > 0 else 1
        self.limit = limit
        self.foreseen = limit == request.max_tokens or limit == room

    def note_tokens(self, step: int, count: int) -> None:
        """Count output tokens sampled by a step; their steps are kept only once they are not consecutive."""
        if self.first_token_step < 0:
            self.first_token_step = step
        if self.token_steps is None and (count != 1 or step != self.first_token_step + self.outputs):
            self.token_steps = array("q", range(self.first_token_step, self.first_token_step + self.outputs))
        if self.token_steps is not None:
            self.token_steps.extend([step] * count)
        self.outputs += count
        self.known += count

    def take_seat(self, step: int, hit_tokens: int) -> None:
        """Begin a stay in the running list with a step; a preemption ends with the step before.

        Args:
            step: The first of the stay.
            hit_tokens: Tokens found cached.
        """
        self.status = RUNNING
        self.tenure_start = step
        self.tenure_hit = hit_tokens
        if self.first_step < 0:
            self.cached_tokens = hit_tokens
            self.first_step = step
        else:
            self.join_step = -1
            assert self.spans is not None
            _, first, _, _ = self.spans[-1]
            self.spans[-1] = ("preempted", first, step - 1, 0)

    def close_tenure(self, last_step: int, decode_tokens: int) -> None:
        """Append the spans of the stay in the running list that ends with `last_step`."""
        if self.spans is None:
            self.spans = []
        if self.join_step < 0:
            self.spans.append(("prefill", self.tenure_start, last_step, self.computed - self.tenure_hit))
            return
        if self.join_step >= self.tenure_start:  # else it had sampled before it came back from the host
            prefill_tokens = self.join_tokens - self.tenure_hit
            self.spans.append(("prefill", self.tenure_start, self.join_step, prefill_tokens))
        if decode_tokens:
            self.spans.append(("decode", self.join_step + 1, last_step, decode_tokens))

    @property
    def reason(self) -> str:
        """How it ends: "length" or "stop"."""
        is_eos = self.limit == self.request.output_tokens < self.request.max_tokens
        return "stop" if is_eos else "length"

    @property
    def id(self) -> int:
        """The request's id."""
        return self.request.id

    def __repr__(self) -> str:
        state = ("waiting", "running", "preempted", "finished")[self.status]
        return f"Sequence({self.request.id}, {state}, known={self.known}, computed={self.computed})"
