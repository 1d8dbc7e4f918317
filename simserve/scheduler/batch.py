"""A batch: what runs in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simserve.cost.timer import Chunk
from simserve.scheduler.sequence import Sequence

if TYPE_CHECKING:
    from simserve.scheduler.vllm.cohort import Cohort


class Entry:
    """One sequence in a batch.

    Attributes:
        tokens: Tokens scheduled, drafts included.
        computed_before: Its computed tokens before this step.
        drafts: Speculative tokens among them.
        samples: Whether the step yields an output (it is no partial prefill).
    """

    __slots__ = ("computed_before", "drafts", "samples", "sequence", "tokens")

    def __init__(self, sequence: Sequence, tokens: int, computed_before: int, drafts: int) -> None:
        self.sequence = sequence
        self.tokens = tokens
        self.computed_before = computed_before
        self.drafts = drafts
        self.samples = False


class Batch:
    """One step's work, as the scheduler decided it.

    Attributes:
        step: Number of the step in its instance.
        decodes, context_tokens, window_tokens: How many sequences take one token each beyond their
            prompt, the sum of the contexts they read, and that of min(context, window).
        chunks: Prefill chunks (and speculative verifications), in order.
        samples: Rows that reach the LM head.
        entries: Sequences handled one by one; steady decoders are in `cohort` instead.
        cohort, ordinal: The steady decoders of this batch and which of the cohort's steps it is.
        detached: Steady decoders of this batch that were preempted while it was in flight.
        ends_some: Whether an entry ends with the token this step samples.
        running, waiting, used_blocks: The scheduler's state after schedule(), for the step log.
        observed: What decision logs ask for, filled only when the scheduler observes.
    """

    __slots__ = (
        "chunks", "cohort", "context_tokens", "decodes", "detached", "ends_some", "entries", "observed",
        "ordinal", "running", "samples", "step", "used_blocks", "waiting", "window_tokens",
    )  # fmt: skip

    def __init__(self, step: int) -> None:
        self.step = step
        self.decodes = 0
        self.context_tokens = 0
        self.window_tokens = 0
        self.chunks: list[Chunk] = []
        self.samples = 0
        self.entries: list[Entry] = []
        self.cohort: Cohort | None = None
        self.ordinal = 0
        self.detached: list[Sequence] | None = None
        self.ends_some = False
        self.running = 0
        self.waiting = 0
        self.used_blocks = 0
        self.observed: Any = None

    @property
    def prefill_tokens(self) -> int:
        """Tokens of all chunks."""
        return sum(chunk.tokens for chunk in self.chunks)
