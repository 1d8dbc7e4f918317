"""When steps start and end: the stages of one instance as a pipeline of single servers.

A batch enters a stage when it has left the stage before (plus the time to hand over its activations) and
the stage is free. Times are integer nanoseconds, so a stretch gives the same ends as its steps one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from simserve.cost.timer import StepTimer
from simserve.engine.draft_cost import DraftCost
from simserve.engine.stretch_plan import Plan, price_cohort, price_forecast
from simserve.engine.transfers import LayeredLoad, TransferClock
from simserve.scheduler.batch import Batch, Forecast


class StageClock:
    """Advances one instance's stages.

    Args:
        timers: One a pipeline stage.
        host_ns: Host time between a decision and the start of its step: scheduling and input preparation.
            Asynchronous scheduling decides while the step before still runs, so it rarely shows there.
        serial: Consecutive batches hold the same sequences (asynchronous scheduling), so a batch starts
            only when the one before has left the last stage.
        draft: What speculative decoding adds.
        transfers: The paths of KV entries; None where no scheduler moves any.
        weight_reads: Of each stage the time for which a step of so many tokens holds the path from the host,
            to read weights that lie there; () where none do. A step begins when copies have left that path.

    Attributes:
        start_ns: Start of the step dispatched last.
        links: The paths of KV entries.
    """

    def __init__(
        self,
        timers: Sequence[StepTimer],
        *,
        host_ns: int,
        serial: bool,
        draft: DraftCost | None = None,
        transfers: TransferClock | None = None,
        weight_reads: Sequence[Callable[[int], int]] = (),
    ) -> None:
        self._timers = timers
        self._host_ns = host_ns
        self._serial = serial and len(timers) > 1
        self._draft = draft
        self.links = transfers
        self._weight_reads = weight_reads if transfers is not None else ()
        self._free = [0] * len(timers)
        self._is_simple = len(timers) == 1 and not host_ns and not self._weight_reads
        self._end = 0
        self.start_ns = 0

    def dispatch(self, batch: Batch, now: int) -> int:
        """Run one step decided at `now`; returns its end. Mutates the clock."""
        timers = self._timers
        begin = now + self._host_ns
        free = self._free
        decodes, context, window = batch.decodes, batch.context_tokens, batch.window_tokens
        if len(timers) == 1 and not self._weight_reads:
            if free[0] > begin:
                begin = free[0]
            layered: Sequence[LayeredLoad] = ()
            if batch.transfers is not None:
                begin, layered = self._land(batch, begin)
            self.start_ns = begin
            if batch.chunks:
                duration = timers[0].batch_ns(decodes, context, window, batch.chunks, batch.samples)
            else:
                duration = timers[0].decode_ns(decodes, context, window, 1)[0]
            if self._draft is not None:
                duration += self._draft.batch_ns(batch)
            end = begin + duration if not layered else end_of_layers(begin, duration, layered)
            free[0] = self._end = end
            return end
        return self._dispatch_stages(batch, begin)

    def _dispatch_stages(self, batch: Batch, begin: int) -> int:
        """The same for several stages, or with weights in host memory."""
        free = self._free
        shape = (batch.decodes, batch.context_tokens, batch.window_tokens, batch.chunks, batch.samples)
        tokens = batch.decodes + batch.prefill_tokens
        if self._serial and batch.decodes:
            begin = max(begin, self._end)
        layered: Sequence[LayeredLoad] = ()
        if batch.transfers is not None:
            begin, layered = self._land(batch, max(begin, free[0]))
        end = begin
        last = len(self._timers) - 1
        for stage, timer in enumerate(self._timers):
            begin = max(begin, free[stage])
            if self._weight_reads:
                begin = self._read_weights(stage, begin, tokens)
            if not stage:
                self.start_ns = begin
            duration = timer.batch_ns(*shape)
            if self._draft is not None and stage == last:
                duration += self._draft.batch_ns(batch)
            end = end_of_layers(begin, duration, layered)
            free[stage] = end
            begin = end + timer.send_ns(tokens)
        self._end = end
        return end

    def _land(self, batch: Batch, begin: int) -> tuple[int, list[LayeredLoad]]:
        """Return when a step can begin for its transfers, and what its layers wait for."""
        assert self.links is not None, "this engine has no paths for KV entries"
        assert batch.transfers is not None
        return self.links.land(batch.transfers, begin)

    def _read_weights(self, stage: int, begin: int, tokens: int) -> int:
        """Let a step have the path from the host once copies have left it; returns when it begins."""
        links = self.links
        assert links is not None
        begin = max(begin, links.copies_until())
        links.hold_for_weights(begin, self._weight_reads[stage](tokens))
        return begin

    def plan(self, ends: list[int], forecast: Forecast, schedules: int, now: int, owed: int) -> Plan:
        """Price the decode steps of a stretch. Changes nothing: `follow` does.

        Args:
            ends: Ends of the batches in flight.
            forecast: The decode batches.
            schedules: How many new steps.
            now: When the first new step is decided, if that is owed.
            owed: 1 if so; else, and for the other new steps, the end of one batch after the other in
                flight lets the next be decided.
        """
        cohorts, last = forecast.cohorts, forecast.last_sequences
        if not self._is_simple or len(cohorts) > 1:
            durations_of = price_forecast(self._timers, forecast, schedules)
            counts = [count for count, _ in cohorts]
            return self._plan_stages(ends, durations_of, counts, last, schedules, now, owed)
        # Without host time a step starts when the one before has ended (or now, if none is in flight).
        timer, windows = self._timers[0], forecast.window_tokens
        count, context = cohorts[0]
        if last < 0 and len(windows) == 1:
            durations = timer.decode_ns(count, context, windows[0], schedules)
        else:
            durations = price_cohort(timer, forecast, schedules)
        begin = ends[-1] if ends else max(now, self._free[0])
        planned = list(accumulate(durations, initial=begin))
        plan = Plan(planned, [count], last, schedules)
        if ends:
            planned[:1] = ends
        else:
            plan.first_start = begin
            del planned[0]
        return plan

    def _plan_stages(
        self,
        ends: list[int],
        durations: list[list[int]],
        counts: list[int],
        last: int,
        schedules: int,
        now: int,
        owed: int,
    ) -> Plan:
        host, serial, timers, weight_reads = self._host_ns, self._serial, self._timers, self._weight_reads
        free = list(self._free)
        planned, starts, frees, reads = list(ends), [], [], []
        copies_until = self.links.copies_until() if weight_reads and self.links is not None else 0
        end = self._end
        for step in range(schedules):
            count = last if last >= 0 and step == schedules - 1 else counts[step % len(counts)]
            begin = (now if step < owed else planned[step - owed]) + host
            if serial and end > begin:
                begin = end
            if copies_until > begin:
                begin = copies_until
            starts.append(max(begin, free[0]))
            read = 0
            for stage, timer in enumerate(timers):
                if free[stage] > begin:
                    begin = free[stage]
                if weight_reads:
                    read = max(read, begin + weight_reads[stage](count))
                free[stage] = end = begin + durations[stage][step]
                begin = end + timer.send_ns(count)
            planned.append(end)
            frees.append(tuple(free))
            reads.append(read)
        plan = Plan(planned, counts, last, schedules)
        plan.starts, plan.frees, plan.reads = starts, frees, reads
        return plan

    def follow(self, plan: Plan, in_flight: int, schedules: int) -> None:
        """Take the first new steps of a plan as dispatched. Mutates the clock."""
        self._end = end = plan.ends[in_flight + schedules - 1]
        if plan.frees is None:
            self._free[0] = end
        else:
            self._free = list(plan.frees[schedules - 1])
            if self._weight_reads and self.links is not None:
                self.links.hold_for_weights(plan.reads[schedules - 1], 0)


def end_of_layers(begin: int, duration: int, layered: Sequence[LayeredLoad]) -> int:
    """Return the end of a step: the last layer runs when the last piece of a layer-wise load has landed."""
    end = begin + duration
    for landed, layers in layered:
        end = max(end, landed + -(-duration // layers))
    return end
