"""Steady decoders joining and leaving their cohort.

A member's own fields are stale while it is in a cohort: `_settle` writes them from the cohort's counters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import RUNNING, Sequence
from simserve.scheduler.vllm.cohort import Cohort
from simserve.scheduler.vllm.stepwise import StepwiseScheduler


class CohortScheduler(StepwiseScheduler):
    """The state that steady decoders share with those handled one by one.

    Args:
        config: Options.
        observe: Fill `Batch.observed` with what decision logs hold (slower).
        jump: Use aggregates and offer `horizon`; False decides step by step, with equal results.
    """

    def __init__(self, config: SchedulerConfig, *, observe: bool = False, jump: bool = True) -> None:
        super().__init__(config, observe=observe)
        single_group = len(config.kv_groups) == 1 and config.kv_groups[0].window is None
        self._can_jump = jump and single_group and config.speculative is None
        # Completions between two consecutive schedules of the same sequence (asynchronous scheduling).
        self._lag = config.queue_depth if config.async_scheduling else 1
        self._is_async = config.async_scheduling
        # Whether all decoders are in every batch; else the batches of a pipeline hold different ones.
        self._consecutive = config.async_scheduling or config.pipeline_parallel_size == 1
        self._partials: list[Sequence] = []
        # The cohort whose turn it is: the only one, or in a pipeline the one that has just completed (None
        # while all are in flight).
        self._ready: Cohort | None = self._new_cohort() if self._can_jump else None
        self._steady = self._can_jump
        # Batches in flight whose completion is not silent for sure.
        self._irregular = 0
        # Output streams of members that may be a prefix of another request, with their number, and those of
        # them that somebody asks for now. A member's outputs are published when it leaves, or when a
        # lookup asks for their stream; from then on in every step.
        self._sharing: dict[int, int] = {}
        self._watched: dict[int, None] = {}
        # Whether a step is being decided, and its decoders have got their blocks.
        self._deciding = False

    def _new_cohort(self) -> Cohort:
        return Cohort(self.config.block_size, consecutive=self._consecutive, foresees=self._is_async)

    def _mark_irregular(self, batch: Batch) -> None:
        if not (batch.ends_some or batch.detached):
            self._irregular += 1

    # -- who belongs to a cohort ------------------------------------------------------------------------

    def _join(self, sequence: Sequence, cohort: Cohort, batch: Batch, pending: int) -> None:
        """Let a sequence that samples in `batch` become a member, if it will be scheduled again."""
        if not cohort.join(sequence, batch, pending):
            self._mark_irregular(batch)
            batch.ends_some = True
            return
        if sequence.shared_limit * cohort.block_size > sequence.steady_tokens:
            stream = sequence.request.output_stream
            count = self._sharing[stream] = self._sharing.get(stream, 0) + 1
            if count > 1 or stream == self.blocked_stream or self._is_prompted(stream):
                self._watch(stream)

    def _part(self, sequence: Sequence) -> None:
        """Let a member be on its own again."""
        sequence.cohort = None
        sharing = self._sharing
        if sharing and sequence.shared_limit * self.config.block_size > sequence.steady_tokens:
            stream = sequence.request.output_stream
            if stream in sharing:
                sharing[stream] -= 1
                if not sharing[stream]:
                    del sharing[stream]
                    self._watched.pop(stream, None)

    def _is_prompted(self, stream: int) -> bool:
        """Whether a prompt that is being prefilled or loaded has tokens of a stream."""
        for sequence in self._partials if self.tiers is None else [*self._partials, *self._list_holders()]:
            for segment in sequence.request.prompt:
                if segment.stream == stream:
                    return True
        return False

    def _lookup(self, sequence: Sequence) -> tuple[Any, int]:
        """Return the hits of a sequence; members' outputs that it may hit are published first."""
        if self._sharing:
            request = sequence.request
            for segment in request.prompt:
                if segment.stream in self._sharing:
                    self._watch(segment.stream)
            if request.output_stream in self._sharing:
                self._watch(request.output_stream)
        return super()._lookup(sequence)

    def _watch(self, stream: int) -> None:
        """Publish the outputs of a stream, now and from now on in every step."""
        if stream in self._watched:
            return
        self._watched[stream] = None
        for sequence in self.running:
            cohort = sequence.cohort
            if cohort is not None and sequence.request.output_stream == stream:
                self._publish_member(sequence, cohort)

    def _publish_member(self, sequence: Sequence, cohort: Cohort) -> None:
        """Publish the full blocks of a member's known tokens, as of the last step that has been decided."""
        scheduled = self._last_scheduled(sequence, cohort)
        if self._deciding and cohort is self._ready and not cohort.is_leaving(sequence):
            scheduled += 1
        self._count_private(sequence, scheduled)
        tokens = sequence.steady_tokens + scheduled + 1 - sequence.join_ordinal - self._lag
        self.cache.publish(sequence, tokens)

    # -- a member's own fields --------------------------------------------------------------------------

    def _count_private(self, sequence: Sequence, scheduled: int) -> None:
        """Write down the counted blocks that a member has taken since it joined."""
        tokens = sequence.steady_tokens + scheduled - sequence.join_ordinal
        sequence.private = -(-tokens // self.config.block_size) - sequence.tracked

    def _confirm(self, sequence: Sequence, cohort: Cohort, gained: int) -> None:
        """Write the tokens that a member has gained since it joined into its own fields."""
        if gained <= 0:
            return
        joined = sequence.join_ordinal
        steps: Iterable[int]
        if cohort.steps is None:
            begin = sequence.steady_step + 1
            if sequence.token_steps is None and begin == sequence.first_token_step + sequence.outputs:
                sequence.outputs += gained
                sequence.known += gained
                return
            steps = range(begin, begin + gained)
        else:
            steps = cohort.steps[joined + 1 : joined + 1 + gained]
        for step in steps:
            sequence.note_tokens(step, 1)

    # -- leaving a cohort early -------------------------------------------------------------------------

    def _preempt_last(self) -> None:
        """Preempt the last of the running list, whatever it does."""
        victim = self.running.pop()
        if victim.cohort is not None:
            self._detach(victim)
        elif not victim.decoding:
            self._partials.remove(victim)
        self._recompute_later(victim)

    def _detach(self, sequence: Sequence) -> None:
        """Give a cohort's member its own state again, and its tokens in flight to their batches."""
        cohort = sequence.cohort
        assert cohort is not None
        scheduled = self._settle(sequence, cohort)
        for batch in self._in_flight:
            if batch.cohort is cohort and sequence.join_ordinal < batch.ordinal <= scheduled:
                self._mark_irregular(batch)
                batch.detached = [*(batch.detached or ()), sequence]
        cohort.remove(sequence)
        self._part(sequence)

    def _settle(self, sequence: Sequence, cohort: Cohort) -> int:
        """Write a member's state into its own fields; returns the last ordinal it was scheduled in."""
        joined = sequence.join_ordinal
        scheduled = self._last_scheduled(sequence, cohort)
        self._count_private(sequence, scheduled)
        gained = max(0, min(cohort.completed - 1, sequence.finish_ordinal) - joined)
        self._confirm(sequence, cohort, gained)
        sequence.computed = sequence.steady_tokens + scheduled - joined
        if self._is_async:
            sequence.inflight += scheduled - joined - gained
        published = sequence.steady_tokens + scheduled + 1 - joined - self._lag
        self.cache.publish(sequence, min(published, sequence.known))
        return scheduled

    def _last_scheduled(self, sequence: Sequence, cohort: Cohort) -> int:
        if cohort.is_leaving(sequence):
            return sequence.finish_ordinal + self._lag - 2
        return cohort.ordinal - 1

    def abort(self, request_id: int) -> Sequence | None:
        """Drop a request and free its blocks at once."""
        sequence = self.sequences.get(request_id)
        if sequence is not None and sequence.status == RUNNING:
            if sequence.cohort is not None:
                self._detach(sequence)
            elif sequence in self._partials:
                self._partials.remove(sequence)
        return super().abort(request_id)
