"""A request inside SGLang's scheduler: what it holds of the KV pool, and what the rules look at."""

from __future__ import annotations

from typing import Any

from simserve.kvcache.prefix_keys import PRIVATE_STREAM_BASE, merge_segments
from simserve.kvcache.radix_node import RadixNode
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request, Segment

# No ordinal of the decoders is so large.
NOT_JOINED = 1 << 62


class Row(Sequence):
    """Mutable state of one request; `Sequence` has what engine and records read.

    Attributes:
        key: Merged segments of prompt and output, as the radix tree takes them.
        max_new: Tokens that it may generate, cut to what context and pool can hold.
        ignore_eos: Whether it surely generates all of them.
        priority: None where the client gave none.
        stamp: Grows with every entry into the queue.
        counted_at_entry: Prefill tokens that the engine had processed when it entered the queue.
        prefix: Tokens whose KV stood when its next prefill starts.
        matched: Found by the last match in the tree, on device or host; never all of its tokens.
        node: Node in which the last match on the device ended.
        on_device, host_hit, host_node: Tokens that the device had then, what the host had beyond them, and
            where that ended.
        looked_up, lookups: Tokens that the tree had when storage was last asked for the rest, and how often
            it was asked again.
        filled: Tokens it had when it was last looked up (what priority preemption believes it needs).
        locked: Node up to which it protects the tree; None: nothing.
        protected: Tokens that belong to the tree; the rest, up to `committed`, is its own.
        inserted: Tokens it has put into the tree.
        committed: Tokens with a place in the pool; while it decodes, `Decoders.committed` knows.
        group, base, joined, end, is_resting: The decoders that it has joined, and its place there.
    """

    key: list[Segment]
    node: RadixNode
    matched = 0
    on_device = 0
    host_hit = 0
    host_node: RadixNode | None = None
    looked_up = 0
    lookups = 0
    prefix = 0
    filled = 0
    locked: RadixNode | None = None
    protected = 0
    inserted = 0
    committed = 0
    group: Any = None
    base = 0
    joined = NOT_JOINED
    end = -1
    is_resting = True
    counted_at_entry = 0
    stamp: float = 0

    def __init__(self, request: Request, arrival_order: float, max_new: int, eos_stream: int | None) -> None:
        super().__init__(request, arrival_order, request.prompt_tokens + max(1, max_new))
        self.max_new = max_new
        self.ignore_eos = request.ignore_eos
        self.priority: int | None = request.priority
        self.limit = max(1, min(request.output_tokens, max_new))
        # An end by length is foreseen while the last token is still being computed; an EOS is not.
        self.foreseen = self.limit >= max_new
        self.key = _tokens_of(request, eos_stream)

    @property
    def ends_by_eos(self) -> bool:
        """Whether its last token is an EOS."""
        return self.limit == self.request.output_tokens < self.request.max_tokens and not self.ignore_eos

    @property
    def reason(self) -> str:
        """How it ends: "length" or "stop"."""
        return "stop" if self.ends_by_eos else "length"


def _tokens_of(request: Request, eos_stream: int | None) -> list[Segment]:
    prompt = request.prompt or (Segment(PRIVATE_STREAM_BASE - request.id, 0, request.prompt_tokens),)
    output = [Segment(request.output_stream, 0, request.max_tokens)]
    if eos_stream is not None and request.output_tokens < request.max_tokens:
        plain = request.output_tokens - 1
        output = [Segment(request.output_stream, 0, plain), Segment(eos_stream, 0, 1)]
    return merge_segments((*prompt, *output))
