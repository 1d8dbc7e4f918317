"""Data-parallel ranks of a mixture-of-experts model: engines that run every step together.

Their experts are shared, so no rank can run a step alone. While any of them has requests, each runs a batch
of its own or a dummy of one token, and the step lasts as long as the slowest one's (`DPEngineCoreProc` in
vllm/v1/engine/core.py, vLLM 0.19). That is a wave (`wave`). A rank that only collects a batch for a while
(`wake_at`) has no work yet: the requests are in front of the engine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import zip_longest

from simpy import Environment, Event

from simserve.engine.alarm import Alarm
from simserve.engine.instance import FIRST_ENGINE_PRIORITY
from simserve.engine.lockstep_clock import LockstepClock
from simserve.engine.lockstep_rank import LockstepRank
from simserve.engine.loop import Ended
from simserve.engine.stretch import LONGEST_REACH, SHORTEST_REACH
from simserve.engine.wave import Report, Wave
from simserve.scheduler.batch import Batch
from simserve.scheduler.contract import Scheduler


class LockstepGroup:
    """The ranks of one instance on the SimPy clock.

    Args:
        env: The clock, in integer nanoseconds.
        first_index: Number of the first rank's engine; the others follow.
        schedulers: One a rank.
        clock: Prices and orders the steps.
        ended: See `EngineLoop`.
        report: Told of a rank's load when that has changed.
        reports_early: Whether ranks tell of it before a step too, not only after it.
        jump: Pass stretches at once. The result is the same without, only slower.
        check: Check the KV bookkeeping after every step.

    Attributes:
        ranks: The engines.
        stretch_steps: Steps that were passed in stretches.
    """

    def __init__(
        self,
        env: Environment,
        first_index: int,
        schedulers: Sequence[Scheduler],
        clock: LockstepClock,
        ended: Ended,
        report: Report,
        *,
        reports_early: bool = False,
        jump: bool = True,
        check: bool = False,
    ) -> None:
        self.env = env
        self.stretch_steps = 0
        self.ranks = [
            LockstepRank(first_index + rank, rank, scheduler, ended, self, links=links, check=check)
            for rank, (scheduler, links) in enumerate(zip_longest(schedulers, clock.links))
        ]
        self._clock = clock
        self._wave = Wave(report, len(schedulers))
        self._reports_early = reports_early
        self._jump = jump and clock.foresees
        self._depth: int = schedulers[0].config.queue_depth
        self._priority = FIRST_ENGINE_PRIORITY + first_index
        # Ends of the steps in flight; in a stretch those of its steps follow.
        self._ends: list[int] = []
        # Steps of the stretch: foreseen when it began, foreseen and left, and left until something is to be
        # seen (fewer where an arrival has cut it).
        self._planned = 0
        self._foreseen = 0
        self._silent = 0
        self._reach = SHORTEST_REACH
        self._wake: Alarm | None = None
        # Between two waves: when time alone lets a rank begin the next one; -1: only a request does.
        self._due = -1

    @property
    def now_ns(self) -> int:
        """The time."""
        now: int = self.env.now  # type: ignore[assignment]
        return now

    # -- the clock ----------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make the ranks look at their input at the first end of a step from now on."""
        now = self.now_ns
        if self._wake is None:
            self._wake_at(now)
        elif self._silent:
            passed = bisect_left(self._ends, now, 0, self._silent)
            if passed < self._silent:
                self._reach = max(SHORTEST_REACH, 2 * passed)
                self._silent = passed
                del self._ends[self._depth + passed :]
                self._wake.silence()
                self._wake_at(self._ends[passed])
        elif not self._wave.is_running:
            # The last steps of a wave are still in flight: the next wave need not wait for them.
            self._wake.silence()
            self._wake_at(now)

    def _wake_at(self, time_ns: int) -> None:
        self._wake = alarm = Alarm(self.env, self._on_wake)
        alarm.set(time_ns - self.now_ns, self._priority)

    def _on_wake(self, _: Event) -> None:
        now = self.now_ns
        if self._silent:
            if self._silent == self._planned:
                self._reach = min(LONGEST_REACH, 2 * self._reach)
            self._pass(self._silent)
        if self._ends and self._ends[0] <= now:
            del self._ends[0]
            for rank in self.ranks:
                rank.complete(now)
            for rank in self.ranks:
                self._wave.tell(rank.rank, rank.counts(), now)
            if self._wave.is_to_agree:
                self._agree()
        self._run_steps(now)
        if self._ends:
            self._plan_ahead(now)
        elif self._due >= 0:
            self._wake_at(self._due)
        else:
            self._wake = None

    def _agree(self) -> None:
        """Go on while any rank has work; else the wave is over."""
        if not any(rank.has_work for rank in self.ranks):
            self._wave.end()
            for rank in self.ranks:
                rank.rest()

    def _run_steps(self, now: int) -> None:
        """Dispatch steps while there is room in flight and the wave goes on, or a request begins one."""
        while len(self._ends) < self._depth:
            if self._wave.is_running:
                batches = [self._decide(rank, now) for rank in self.ranks]
            else:
                batches = self._begin_wave(now)
                if not self._wave.is_running:
                    return
            end = self._clock.dispatch(batches, now)
            self._wave.step += 1
            self._ends.append(end)
            for rank, batch in zip(self.ranks, batches, strict=True):
                rank.record(batch, self._clock.start_ns, end)

    def _begin_wave(self, now: int) -> list[Batch | None]:
        """Let ranks that rest decide: the wave begins if one of them has more to do than to wait."""
        ranks = self.ranks
        for rank in ranks:
            self._look(rank, now)
        asked = [rank for rank in ranks if rank.has_unfinished]
        batches = [rank.decide(now) for rank in ranks]
        self._wave.is_running = any(rank.holds_until < 0 for rank in asked)
        if self._wave.is_running:
            self._due = -1
            for rank, batch in zip(ranks, batches, strict=True):
                rank.enter(batch)
        else:
            self._due = min([rank.holds_until for rank in asked], default=-1)
        return batches

    def _decide(self, rank: LockstepRank, now: int) -> Batch | None:
        """Let a rank choose its batch, None for a dummy.

        A rank that finds nothing to do goes into its next dummy at once, and there it waits until the others
        come (the all-reduce of `coordinate_batch_across_dp`). So a request that reaches it meanwhile waits a
        step more than at a busy rank.
        """
        if rank.awaits_others:
            rank.skip()
            self._look(rank, now)
            rank.awaits_others = not rank.has_unfinished
            return None
        self._look(rank, now)
        batch = rank.decide(now)
        rank.enter(batch)
        return batch

    def _look(self, rank: LockstepRank, now: int) -> None:
        if rank.has_input:
            rank.take_input(now)
            if self._reports_early:
                self._wave.tell(rank.rank, rank.counts(), now)

    # -- stretches ----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Pass the steps whose time has come, so that the ranks' state is as of now."""
        if self._silent:
            passed = bisect_left(self._ends, self.now_ns, 0, self._silent)
            if passed:
                self._pass(passed)

    def _plan_ahead(self, now: int) -> None:
        """Wait for the oldest step, or for the end of a stretch in which every rank decodes or idles."""
        self._silent = 0
        # What the last decisions have changed is told with the next completion.
        told = self._wave.told == [rank.counts() for rank in self.ranks]
        if self._jump and told and self._wave.is_running and len(self._ends) == self._depth:
            steps = min(rank.horizon() for rank in self.ranks)
            if steps > 0 and any(rank.has_work for rank in self.ranks):
                steps = min(steps, self._reach)
                batches = [rank.foresee(steps) for rank in self.ranks]
                self._ends += self._clock.decode_ends(batches, steps, self._ends[-1])
                self._foreseen = self._planned = steps
                for rank in self.ranks:
                    wake = rank.scheduler.wake_at(now)
                    if wake is not None:
                        # The first decision from then on is really made.
                        steps = bisect_left(self._ends, wake, 0, steps)
                self._silent = steps
                del self._ends[self._depth + steps :]
        wake = self._ends[self._silent]
        # The last steps of a wave are still in flight: a batch that is due need not wait for them.
        self._wake_at(min(wake, self._due) if self._due >= 0 else wake)

    def _pass(self, steps: int) -> None:
        """Pass the first steps of the stretch: as many completions, each with the step that it lets start."""
        depth = self._depth
        ends = self._ends[depth : depth + steps]
        starts = self._ends[depth - 1 : depth + steps - 1]
        whole = steps == self._foreseen
        for rank in self.ranks:
            rank.advance(starts, ends, whole=whole)
            if rank.has_unfinished:  # a rank that idles decides nothing
                rank.scheduler.expire(self._ends[steps - 1])
        self._clock.follow(ends[-1])
        self._wave.step += steps
        self.stretch_steps += steps
        self._silent -= steps
        self._foreseen -= steps
        del self._ends[:steps]
