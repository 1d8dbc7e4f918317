"""A batch: what runs in one step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve.cost.timer import Chunk
from simserve.scheduler.sequence import Sequence

if TYPE_CHECKING:
    from simserve.scheduler.vllm.cohort import Cohort


# KV memory after a schedule: units in use, and free ones that hold a prefix which can still be found.
Usage = tuple[int, int]


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


# Paths of KV entries. From `FIRST_TIER` on those of tiers with rates of their own, two each: `read_path(n)`
# and `write_path(n)` of tier n behind the GPU.
TO_HOST, FROM_HOST, ON_DEVICE, FIRST_TIER = range(4)


def read_path(tier: int) -> int:
    """Return the path on which a tier with a rate of its own is read."""
    return FIRST_TIER + 2 * tier


def write_path(tier: int) -> int:
    """Return the path on which it is written."""
    return FIRST_TIER + 2 * tier + 1


class Transfer(NamedTuple):
    """KV entries that are moved before a step's kernels run, beside them, or between tiers.

    Attributes:
        path: TO_HOST and FROM_HOST go over PCIe, ON_DEVICE reads and writes the accelerator's memory.
        size_bytes: Bytes of one rank; all ranks move theirs at the same time.
        copies: Pieces of memory that are copied one by one.
        awaited: Whether the step's kernels wait for it.
        ticket: A number by which others can wait for it; -1: none does.
        after: Tickets of what must have landed before it begins.
        via: A second path that it holds at the same time; -1: none.
        layers: Of one that is awaited: it comes in so many equal pieces, and each layer's kernels wait for
            their own. 0: the step begins when it has landed whole.
    """

    path: int
    size_bytes: int
    copies: int = 1
    awaited: bool = True
    ticket: int = -1
    after: tuple[int, ...] = ()
    via: int = -1
    layers: int = 0


class Landing(NamedTuple):
    """When bytes begin to move, and when the last of them has landed; ns."""

    begin_ns: int
    end_ns: int


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
        window_tokens: Sums of min(context, window) of the coming steps of a single cohort, up to the step
            from which on they stay as they are; (0,) without windows.
    """

    __slots__ = ("cohorts", "last_context", "last_sequences", "window_tokens")

    def __init__(
        self,
        cohorts: list[tuple[int, int]],
        last_sequences: int = -1,
        last_context: int = -1,
        window_tokens: tuple[int, ...] = (0,),
    ) -> None:
        self.cohorts = cohorts
        self.last_sequences = last_sequences
        self.last_context = last_context
        self.window_tokens = window_tokens


def sum_windows(contexts: Iterable[int], window: int, steps: int) -> tuple[int, ...]:
    """Return sums of min(context, window) over decoders in coming steps; see `Forecast.window_tokens`.

    Args:
        contexts: Of the first step; in each that follows all are a token longer.
        window: Tokens that attention reads at most.
        steps: How many steps are asked for at most.
    """
    reads, missing = 0, []
    for context in contexts:
        reads += min(context, window)
        if context < window:
            missing.append(window - context)
    missing.sort(reverse=True)
    sums = [reads]
    while missing and len(sums) < steps:
        while missing and missing[-1] < len(sums):
            missing.pop()
        reads += len(missing)
        sums.append(reads)
    return tuple(sums)
