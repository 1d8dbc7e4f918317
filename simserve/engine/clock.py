"""When steps start and end: the stages of one instance as a pipeline of single servers.

A batch enters a stage when it has left the stage before (plus the time to hand over its activations) and
the stage is free. Times are integer nanoseconds, so a stretch gives the same ends as its steps one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from simserve.cost.timer import Chunk, StepTimer
from simserve.engine.transfers import LayeredLoad, TransferClock
from simserve.scheduler.batch import Batch, Forecast


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
        cohorts, last, last_context = forecast.cohorts, forecast.last_sequences, forecast.last_context
        if self._is_simple and len(cohorts) == 1:
            # Without host time a step starts when the one before has ended (or now, if none is in flight).
            count, context = cohorts[0]
            decode_ns = self._timers[0].decode_ns
            if len(forecast.window_tokens) > 1:
                (durations,) = self._price(forecast, schedules)
            elif last < 0:
                durations = decode_ns(count, context, forecast.window_tokens[0], schedules)
            elif schedules == 1:
                durations = decode_ns(last, last_context, 0, 1)
            else:
                durations = decode_ns(count, context, 0, schedules - 1)
                durations += decode_ns(last, last_context, 0, 1)
            begin = ends[-1] if ends else max(now, self._free[0])
            planned = list(accumulate(durations, initial=begin))
            if ends:
                planned[:1] = ends
                return Plan(planned, [count], last, schedules)
            plan = Plan(planned, [count], last, schedules)
            plan.first_start = begin
            del planned[0]
            return plan
        counts = [count for count, _ in cohorts]
        durations_of = self._price(forecast, schedules)
        return self._plan_stages(ends, durations_of, counts, last, schedules, now, owed)

    def _price(self, forecast: Forecast, schedules: int) -> list[list[int]]:
        """Durations of each new step, a list a stage."""
        cohorts, last, last_context = forecast.cohorts, forecast.last_sequences, forecast.last_context
        if len(cohorts) > 1:
            return self._price_in_turns(forecast, schedules)
        count, context = cohorts[0]
        plain = schedules - (last >= 0)
        stages = []
        for timer in self._timers:
            durations = _price_decodes(timer, count, context, forecast.window_tokens, plain)
            if last >= 0:
                durations = durations + timer.decode_ns(last, last_context, 0, 1)
            stages.append(durations)
        return stages

    def _price_in_turns(self, forecast: Forecast, schedules: int) -> list[list[int]]:
        """Durations of each new step, a list a stage, where several cohorts take turns."""
        turns = len(forecast.cohorts)
        stages = []
        for timer in self._timers:
            durations = [0] * schedules
            for turn, (count, context) in enumerate(forecast.cohorts):
                steps = len(range(turn, schedules, turns))
                if steps:
                    durations[turn::turns] = timer.decode_ns(count, context, 0, steps)
            stages.append(durations)
        return stages

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
        host = self._host_ns
        timers = self._timers
        free = list(self._free)
        planned, starts, frees, reads = list(ends), [], [], []
        copies_until = self.links.copies_until() if self._weight_reads and self.links is not None else 0
        end = self._end
        for step in range(schedules):
            count = last if last >= 0 and step == schedules - 1 else counts[step % len(counts)]
            begin = (now if step < owed else planned[step - owed]) + host
            if self._serial and end > begin:
                begin = end
            begin = max(begin, copies_until)
            starts.append(max(begin, free[0]))
            read = 0
            for stage, timer in enumerate(timers):
                begin = max(begin, free[stage])
                if self._weight_reads:
                    read = max(read, begin + self._weight_reads[stage](count))
                end = begin + durations[stage][step]
                free[stage] = end
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


def _price_decodes(
    timer: StepTimer, count: int, context: int, window_tokens: Sequence[int], steps: int
) -> list[int]:
    """Return the durations of consecutive decode steps; see `Forecast.window_tokens`.

    While what windows read grows, steps are priced one by one.
    """
    growing = min(len(window_tokens) - 1, steps)
    durations: list[int] = []
    for step in range(growing):
        durations += timer.decode_ns(count, context + step * count, window_tokens[step], 1)
    if steps > growing:
        durations += timer.decode_ns(
            count, context + growing * count, window_tokens[growing], steps - growing
        )
    return durations


class Plan:
    """Ends of the batches in flight and of a stretch's new steps.

    Attributes:
        ends: In order; the first ones are those in flight.
        schedules: How many new steps.
        counts: Sequences in the new steps, one cohort after the other in turn.
        last_count: Sequences in the very last one where they are fewer, else -1.
        starts: Start of each new step; None where it is the end of the step before.
        first_start: Start of the first new step where no step is before it, else -1.
        frees: Each new step's time at which every stage is free; None for one stage without host time.
        reads: Until when each new step's weights hold the path from the host, 0 without such.
    """

    __slots__ = ("counts", "ends", "first_start", "frees", "last_count", "reads", "schedules", "starts")

    def __init__(self, ends: list[int], counts: list[int], last_count: int, schedules: int) -> None:
        self.ends = ends
        self.counts = counts
        self.last_count = last_count
        self.schedules = schedules
        self.first_start = -1
        self.starts: list[int] | None = None
        self.frees: list[tuple[int, ...]] | None = None
        self.reads: list[int] = []

    def drop(self, steps: int, schedules: int) -> None:
        """Forget ends that have passed and new steps that have been dispatched."""
        self.ends = self.ends[steps:]
        self.schedules -= schedules
        self.first_start = -1
        if self.starts is not None and self.frees is not None:
            self.starts = self.starts[schedules:]
            self.frees = self.frees[schedules:]
            self.reads = self.reads[schedules:]
        turn = schedules % len(self.counts)
        if turn:
            self.counts = self.counts[turn:] + self.counts[:turn]

    def start_of(self, in_flight: int, step: int) -> int:
        """Return the start of new step `step`, given how many batches are in flight before them."""
        if self.starts is not None:
            return self.starts[step]
        if self.first_start >= 0 and step == 0:
            return self.first_start
        return self.ends[in_flight + step - 1]
