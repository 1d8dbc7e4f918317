"""When the steps of engines in lock-step start and end, over the stages of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from simserve.cost.lockstep import DUMMY, BatchShape, LockstepTimer
from simserve.engine.clock import end_of_layers
from simserve.engine.draft_cost import DraftCost
from simserve.engine.transfers import LayeredLoad, TransferClock
from simserve.scheduler.batch import Batch


class LockstepClock:
    """Advances the stages of all ranks at once.

    Args:
        timers: One a stage.
        serial: As `StageClock`'s.
        draft: What speculative decoding adds.
        transfers: The paths of KV entries, of each rank; () where no scheduler moves any.
        weight_reads: As `StageClock`'s; every rank reads its own.

    Attributes:
        start_ns: Start of the step dispatched last.
        links: The paths of KV entries, of each rank.
    """

    def __init__(
        self,
        timers: Sequence[LockstepTimer],
        *,
        serial: bool,
        draft: DraftCost | None = None,
        transfers: Sequence[TransferClock] = (),
        weight_reads: Sequence[Callable[[int], int]] = (),
    ) -> None:
        self._timers = timers
        self.links = transfers
        self._weight_reads = weight_reads
        self._serial = serial and len(timers) > 1
        self._draft = draft
        self._free = [0] * len(timers)
        self._end = 0
        self.start_ns = 0

    @property
    def foresees(self) -> bool:
        """Whether `decode_ends` can be asked: a single stage, whose steps wait for nothing."""
        return len(self._timers) == 1 and not self._weight_reads

    def dispatch(self, batches: Sequence[Batch | None], now: int) -> int:
        """Run one step decided at `now`, a batch a rank, None for a dummy; returns its end."""
        shapes = [DUMMY if batch is None else _shape(batch) for batch in batches]
        tokens = max(shape.tokens for shape in shapes)
        begin = max(now, self._end) if self._serial else now
        could = max(begin, self._free[0])
        layered: list[LayeredLoad] = []
        for links, batch in zip(self.links, batches, strict=False):
            if batch is not None and batch.transfers is not None:
                landed, pieces = links.land(batch.transfers, could)
                begin = max(begin, landed)
                layered += pieces
        begin = max(begin, self._free[0])
        end = begin
        for stage, timer in enumerate(self._timers):
            begin = self._read_weights(stage, max(begin, self._free[stage]), tokens)
            if not stage:
                self.start_ns = begin
            duration = timer.step_ns(shapes)
            if self._draft is not None and stage == len(self._timers) - 1:
                duration += max((self._draft.batch_ns(b) for b in batches if b is not None), default=0)
            end = end_of_layers(begin, duration, layered)
            self._free[stage] = end
            begin = end + timer.send_ns(tokens)
        self._end = end
        return end

    def _read_weights(self, stage: int, begin: int, tokens: int) -> int:
        """Let a step have the paths from the host once copies have left them; returns when it begins."""
        if self._weight_reads:
            begin = max([begin, *[links.copies_until() for links in self.links]])
            duration = self._weight_reads[stage](tokens)
            for links in self.links:
                links.hold_for_weights(begin, duration)
        return begin

    def decode_ends(
        self, batches: Sequence[tuple[BatchShape, BatchShape | None]], steps: int, begin: int
    ) -> list[int]:
        """Return the ends of decode steps that follow each other from `begin` on. Changes nothing.

        Args:
            batches: Of each rank: the first step's, and the last step's where it has fewer sequences.
            steps: How many.
            begin: End of the step before.
        """
        timer = self._timers[0]
        if all(last is None for _, last in batches):
            durations = timer.decode_ns([first for first, _ in batches], steps)
        else:
            durations = timer.decode_ns([first for first, _ in batches], steps - 1) if steps > 1 else []
            durations.append(
                timer.decode_ns([last or _later(first, steps - 1) for first, last in batches], 1)[0]
            )
        return list(accumulate(durations, initial=begin))[1:]

    def follow(self, end: int) -> None:
        """Take the steps up to `end` as dispatched."""
        self._free[0] = self._end = end


def _shape(batch: Batch) -> BatchShape:
    return BatchShape(batch.decodes, batch.context_tokens, batch.window_tokens, batch.chunks, batch.samples)


def _later(batch: BatchShape, steps: int) -> BatchShape:
    """Return a batch of decodes so many steps later."""
    if batch is DUMMY:
        return batch
    return batch._replace(context_tokens=batch.context_tokens + steps * batch.decodes)
