"""When steps start and end: the stages of one instance as a pipeline of single servers.

A batch enters a stage when it has left the stage before (plus the time to hand over its activations) and
the stage is free. Times are integer nanoseconds, so a stretch gives the same ends as its steps one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from simserve.cost.timer import Chunk, StepTimer
from simserve.scheduler.batch import Batch
from simserve.scheduler.vllm.scheduler import Forecast


class DraftCost:
    """The time that proposing drafts adds to a step (speculative decoding).

    Args:
        timer: Prices one step of what proposes: the draft model, or EAGLE's one layer and LM head.
        num_speculative_tokens: Drafts a step, proposed one after the other.
    """

    def __init__(self, timer: StepTimer, num_speculative_tokens: int) -> None:
        self._timer = timer
        self._drafts = num_speculative_tokens

    def batch_ns(self, batch: Batch) -> int:
        """Return the time to propose drafts for the sequences that sample in a batch."""
        sampling = sum(entry.samples for entry in batch.entries)
        if not sampling:
            return 0
        context = sum(e.computed_before + e.tokens for e in batch.entries if e.samples)
        chunks = [Chunk(e.tokens, e.computed_before) for e in batch.entries]
        first = self._timer.batch_ns(0, 0, 0, chunks, sampling)
        return first + sum(self._timer.decode_ns(sampling, context, 0, self._drafts - 1))


class StageClock:
    """Advances one instance's stages.

    Args:
        timers: One a pipeline stage.
        host_ns: Host time between a decision and the start of its step: scheduling and input preparation.
            Asynchronous scheduling decides while the step before still runs, so it rarely shows there.
        serial: Consecutive batches hold the same sequences (asynchronous scheduling), so a batch starts
            only when the one before has left the last stage.
        draft: What speculative decoding adds.

    Attributes:
        start_ns: Start of the step dispatched last.
    """

    def __init__(
        self, timers: Sequence[StepTimer], *, host_ns: int, serial: bool, draft: DraftCost | None = None
    ) -> None:
        self._timers = timers
        self._host_ns = host_ns
        self._serial = serial and len(timers) > 1
        self._draft = draft
        self._free = [0] * len(timers)
        self._end = 0
        self.start_ns = 0

    def dispatch(self, batch: Batch, now: int) -> int:
        """Run one step decided at `now`; returns its end. Mutates the clock."""
        timers = self._timers
        shape = (batch.decodes, batch.context_tokens, batch.window_tokens, batch.chunks, batch.samples)
        begin = now + self._host_ns
        free = self._free
        if len(timers) == 1:
            if free[0] > begin:
                begin = free[0]
            self.start_ns = begin
            if batch.chunks:
                end = begin + timers[0].batch_ns(*shape)
            else:
                end = begin + timers[0].decode_ns(*shape[:3], 1)[0]
            if self._draft is not None:
                end += self._draft.batch_ns(batch)
            free[0] = self._end = end
            return end
        tokens = batch.decodes + batch.prefill_tokens
        if self._serial and batch.decodes:
            begin = max(begin, self._end)
        self.start_ns = max(begin, free[0])
        end = begin
        for stage, timer in enumerate(timers):
            end = max(begin, free[stage]) + timer.batch_ns(*shape)
            if self._draft is not None and stage == len(timers) - 1:
                end += self._draft.batch_ns(batch)
            free[stage] = end
            begin = end + timer.send_ns(tokens)
        self._end = end
        return end

    def plan(self, ends: list[int], forecast: Forecast, steps: int) -> Plan:
        """Price the decode steps of a stretch. Changes nothing: `follow` does.

        Args:
            ends: Ends of the batches in flight; the i-th of them lets the i-th new step be decided.
            forecast: The decode batches.
            steps: How many.
        """
        last = forecast.last_sequences >= 0
        plain = steps - last
        turns = len(forecast.cohorts)
        lengths = [(plain - turn + turns - 1) // turns for turn in range(turns)]
        durations = [
            [timer.decode_ns(count, context, 0, length) if length else [] for timer in self._timers]
            for (count, context), length in zip(forecast.cohorts, lengths, strict=True)
        ]
        if last:
            for stage, timer in enumerate(self._timers):
                final = timer.decode_ns(forecast.last_sequences, forecast.last_context, 0, 1)
                durations[0][stage] = durations[0][stage] + final
        if len(self._timers) == 1:
            plan = self._plan_single(ends, durations, steps, turns)
        else:
            plan = self._plan_stages(ends, durations, forecast, steps)
        plan.steps = steps
        plan.counts = [count for count, _ in forecast.cohorts]
        plan.last_count = forecast.last_sequences
        return plan

    def _plan_single(
        self, ends: list[int], durations: list[list[list[int]]], steps: int, turns: int
    ) -> Plan:
        if turns == 1:
            flat = durations[0][0]
        else:
            flat = [durations[step % turns][0][step // turns] for step in range(steps)]
        host = self._host_ns
        end = ends[-1]
        if not host:
            return Plan([*ends[:-1], *accumulate(flat, initial=end)])
        planned = list(ends)
        starts = []
        for step, duration in enumerate(flat):
            begin = max(planned[step] + host, end)
            starts.append(begin)
            end = begin + duration
            planned.append(end)
        return Plan(planned, starts)

    def _plan_stages(
        self, ends: list[int], durations: list[list[list[int]]], forecast: Forecast, steps: int
    ) -> Plan:
        host = self._host_ns
        stages = len(self._timers)
        turns = len(forecast.cohorts)
        sends = [[timer.send_ns(count) for timer in self._timers] for count, _ in forecast.cohorts]
        free = list(self._free)
        planned, starts, frees = list(ends), [], []
        end = ends[-1]
        for step in range(steps):
            turn, index = step % turns, step // turns
            if step == steps - 1 and forecast.last_sequences >= 0:
                sends[turn] = [timer.send_ns(forecast.last_sequences) for timer in self._timers]
            begin = planned[step] + host
            if self._serial and end > begin:
                begin = end
            starts.append(max(begin, free[0]))
            for stage in range(stages):
                end = max(begin, free[stage]) + durations[turn][stage][index]
                free[stage] = end
                begin = end + sends[turn][stage]
            planned.append(end)
            frees.append(tuple(free))
        return Plan(planned, starts, frees)

    def follow(self, plan: Plan, in_flight: int, steps: int) -> None:
        """Take the first `steps` new steps of a plan as dispatched. Mutates the clock."""
        last = in_flight + steps - 1
        self._end = plan.ends[last]
        if plan.frees is None:
            self._free[0] = self._end
        else:
            self._free = list(plan.frees[steps - 1])


class Plan:
    """Ends of the batches in flight and of a stretch's new steps.

    Attributes:
        ends: In order; the first ones are those in flight.
        starts: Start of each new step; None where it is the end of the step before.
        frees: Each new step's time at which every stage is free; None for one stage.
        steps: How many new steps.
        counts: Sequences in the new steps, one cohort after the other in turn.
        last_count: Sequences in the very last one where they are fewer, else -1.
    """

    __slots__ = ("counts", "ends", "frees", "last_count", "starts", "steps")

    def __init__(
        self,
        ends: list[int],
        starts: list[int] | None = None,
        frees: list[tuple[int, ...]] | None = None,
    ) -> None:
        self.ends = ends
        self.starts = starts
        self.frees = frees
        self.steps = 0
        self.counts: list[int] = []
        self.last_count = -1

    def drop(self, steps: int) -> None:
        """Forget the first `steps` ends (they have passed, and so has the dispatch of as many new steps)."""
        self.ends = self.ends[steps:]
        if self.starts is not None:
            self.starts = self.starts[steps:]
        if self.frees is not None:
            self.frees = self.frees[steps:]
        self.steps -= steps
        turn = steps % len(self.counts)
        if turn:
            self.counts = self.counts[turn:] + self.counts[:turn]

    def start_of(self, in_flight: int, step: int) -> int:
        """Return the start of new step `step`."""
        return self.ends[in_flight + step - 1] if self.starts is None else self.starts[step]
