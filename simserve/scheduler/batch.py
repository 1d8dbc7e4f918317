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
        prefill_tokens: Tokens of all chunks.
        samples: Rows that reach the LM head.
        entries: Sequences handled one by one; steady decoders are in `cohort` instead.
        cohort, ordinal: The steady decoders of this batch and which of the cohort's steps it is.
        detached: Steady decoders of this batch that were preempted while it was in flight.
        ends_some: Whether an entry ends with the token this step samples.
        running, waiting, used_blocks: The scheduler's state after schedule(), for the step log.
        observed: What decision logs ask for, filled only when the scheduler observes.
    """

    # Class attributes are the defaults: a batch of decodes sets five of them, and millions are made.
    decodes = 0
    context_tokens = 0
    window_tokens = 0
    chunks: list[Chunk] = []  # noqa: RUF012 - never mutated: schedule() sets a list of its own
    prefill_tokens = 0
    samples = 0
    entries: list[Entry] = []  # noqa: RUF012 - likewise
    cohort: Cohort | None = None
    ordinal = 0
    detached: list[Sequence] | None = None
    ends_some = False
    running = 0
    waiting = 0
    used_blocks = 0
    observed: Any = None

    def __init__(self, step: int) -> None:
        self.step = step
