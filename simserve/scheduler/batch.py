"""A batch: what runs in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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


# `FIRST_TIER + n` is the path from tier n behind the GPU, where that has one of its own.
TO_HOST, FROM_HOST, ON_DEVICE, FIRST_TIER = range(4)


class Transfer(NamedTuple):
    """KV entries that are moved before a step's kernels run, or beside them.

    Attributes:
        path: TO_HOST and FROM_HOST go over PCIe, ON_DEVICE reads and writes the accelerator's memory.
        size_bytes: Bytes of one rank; all ranks move theirs at the same time.
        copies: Pieces of memory that are copied one by one.
        awaited: Whether the step's kernels wait for it.
        ticket: Of one that is not awaited: a number by which one that comes later can wait for it; -1: none.
            Of one that is awaited: what must have landed before it begins.
    """

    path: int
    size_bytes: int
    copies: int = 1
    awaited: bool = True
    ticket: int = -1


class Batch:
    """One step's work, as the scheduler decided it.

    Attributes:
        step: Number of the step in its instance.
        decodes, context_tokens, window_tokens: How many sequences take one token each beyond their
            prompt, the sum of the contexts they read, and that of min(context, window).
        chunks: Prefill chunks (and speculative verifications), in order.
        prefill_tokens: Tokens of all chunks.
        samples: Rows that reach the LM head.
        entries: Sequences handled one by one; steady decoders are in `cohort` or `decoders` instead.
        decoders: Sequences that take one token beyond their prompt, where nothing else is kept of them.
        transfers: What has to land before the step's kernels run.
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
    decoders: list[Sequence] = []  # noqa: RUF012 - likewise
    transfers: list[Transfer] | None = None
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

    def sampling(self) -> list[Sequence]:
        """Return the sequences of `decoders` and `entries` that get a token from this step."""
        return [*self.decoders, *(entry.sequence for entry in self.entries if entry.samples)]


class Forecast:
    """The decode batches of coming steps, for pricing.

    Attributes:
        cohorts: (sequences, sum of contexts) of the next step of each cohort, in turn.
        last_sequences, last_context: The same for the very last step where it has fewer, else -1.
    """

    __slots__ = ("cohorts", "last_context", "last_sequences")

    def __init__(
        self, cohorts: list[tuple[int, int]], last_sequences: int = -1, last_context: int = -1
    ) -> None:
        self.cohorts = cohorts
        self.last_sequences = last_sequences
        self.last_context = last_context
