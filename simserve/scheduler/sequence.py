"""A request inside a scheduler: what it has computed, which blocks it holds, when it ran."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

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
        reason: How it ends: "length" or "stop".
        order: Grows with every admission to the running list.
        blocks, private, shared_limit, keys, published: The cache's table (see `kvcache.paged.Table`).
        first_step, first_token_step, finish_step: Numbers of steps, -1 before they happen.
        token_steps: Step of every output, where they are not consecutive; else None.
        spans: What it did, step ranges, once that is more than one prefill and one decode; else None.
        decoding: Whether it has sampled since it was last admitted.
        tenure_start, tenure_hit: Step of its last admission, and the tokens it found cached then.
        join_step, join_tokens: The step that sampled first since then, and the tokens computed by then.
        cohort, join_ordinal, steady_step, steady_tokens, finish_ordinal: Its place in a group of steady decoders, see `vllm.cohort`.
        owner: The engine's own record of the request; the scheduler never looks at it.
    """

    __slots__ = (
        "arrival_order", "blocks", "cached_tokens", "cohort", "computed", "decoding", "drafts",
        "finish_ordinal", "finish_step", "first_step", "first_token_step", "foreseen", "inflight",
        "join_ordinal", "join_step", "join_tokens", "keys", "known", "limit", "order", "outputs", "owner",
        "preemptions", "private", "published", "reason", "request", "shared_limit", "spans", "status", "steady_step", "steady_tokens",
        "tenure_hit", "tenure_start", "token_steps", "verified_steps",
    )  # fmt: skip

    def __init__(self, request: Request, arrival_order: float, max_model_len: int) -> None:
        self.request = request
        self.arrival_order = arrival_order
        self.status = WAITING
        self.known = request.prompt_tokens
        self.computed = 0
        self.inflight = 0
        self.drafts = 0
        self.outputs = 0
        room = max(1, max_model_len - request.prompt_tokens)
        self.limit = min(request.output_tokens, room)
        self.foreseen = self.limit == request.max_tokens or self.limit == room
        self.reason = "stop" if request.output_tokens < min(request.max_tokens, room + 1) else "length"
        self.order = -1
        self.preemptions = 0
        self.cached_tokens = -1
        self.verified_steps = 0
        self.blocks: list[int] = []
        self.private = 0
        self.shared_limit = 0
        self.keys: list[int] = []
        self.published = 0
        self.first_step = -1
        self.first_token_step = -1
        self.finish_step = -1
        self.decoding = False
        self.tenure_start = -1
        self.tenure_hit = 0
        self.join_step = -1
        self.join_tokens = 0
        self.join_ordinal = 0
        self.steady_step = -1
        self.steady_tokens = 0
        self.finish_ordinal = 0
        self.token_steps: array[int] | None = None
        self.spans: list[tuple[str, int, int, int]] | None = None
        self.cohort: Cohort | None = None
        self.owner: Any = None

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

    def close_tenure(self, last_step: int, decode_tokens: int) -> None:
        """Append the spans of the stay in the running list that ends with `last_step`."""
        if self.spans is None:
            self.spans = []
        if self.join_step < 0:
            self.spans.append(("prefill", self.tenure_start, last_step, self.computed - self.tenure_hit))
            return
        prefill_tokens = self.join_tokens - self.tenure_hit
        self.spans.append(("prefill", self.tenure_start, self.join_step, prefill_tokens))
        if decode_tokens:
            self.spans.append(("decode", self.join_step + 1, last_step, decode_tokens))

    @property
    def id(self) -> int:
        """The request's id."""
        return self.request.id

    def __repr__(self) -> str:
        state = ("waiting", "running", "preempted", "finished")[self.status]
        return f"Sequence({self.request.id}, {state}, known={self.known}, computed={self.computed})"
