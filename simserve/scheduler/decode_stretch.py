"""Stretches of steps in which everyone who runs decodes: how long they can be, and passing them at once.

Exact: what a stretch leaves behind is what its steps would leave, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

from simserve.scheduler.accounting import Accounting
from simserve.scheduler.batch import Batch, Forecast, Usage, sum_windows
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import Sequence

# Why nobody (more) was admitted in the last schedule(): none waits, no seat, no blocks, the step's tokens are
# spent, anything else.
EMPTY, SEATS, MEMORY, BUDGET, OTHER = range(5)


class DecodeStretch(Accounting):
    """The part of the contract that promises: `horizon`, `forecast`, `advance`.

    A policy allows stretches by overriding `decode_batch_stays`.

    Attributes:
        admission: Why nobody (more) was admitted in the last schedule().
        short_at_blocks: The fewest blocks in use at which an admission or a growth found too few; those of a
            full pool if none did, None if the kind does not tell.
        blocked_stream: Whose tokens the sequence that found no blocks would have to hit next, None: nobody's.
    """

    # Whether a step takes at most `max_num_batched_tokens` tokens.
    has_token_budget = True
    # Blocks that must be free before a decoder takes its next token, whether it needs one or not.
    decode_spare_blocks = 0

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: object) -> None:
        super().__init__(config, jump=jump, **options)
        self.admission = EMPTY
        self.short_at_blocks: int | None = self.pool.num_blocks - 1
        self.blocked_stream: int | None = None
        self._batch = Batch(-1)
        self._samples_cache = hasattr(self.cache, "sample")
        self._cache_expires = bool(getattr(self.cache, "expires", False))
        # What moves to and from them is told to the engine with the next decision.
        self._has_tiers = hasattr(self.cache, "take_moves")

    def decode_batch_stays(self) -> bool:
        """Whether `decide` would go on to run all running sequences, and admit or preempt nobody.

        Asked when all of them decode; until one of them ends or blocks run out the answer must hold. The
        default promises nothing, and the engine goes step by step.
        """
        return False

    def wake_at(self, now_ns: int) -> int | None:
        """Return when a cached prefix may expire, while anything is in flight; for a policy with timeouts."""
        return self.cache.expires_at() if self._cache_expires and self._in_flight else None

    def expire(self, now_ns: int) -> None:
        """Drop cached prefixes that are too old, if the cache knows an age."""
        if self._cache_expires:
            self.cache.expire(now_ns)

    def nobody_can_join(self) -> bool:
        """Whether nobody waits, or the first in the queue lacks a seat or blocks that only an end frees."""
        if not len(self.waiting):
            return True
        order = self.order
        if order is not None and (order.preemptive or (order.dynamic and self.admission != SEATS)):
            return False
        if self.admission == MEMORY:
            stream = self.blocked_stream
            return stream is None or all(each.request.output_stream != stream for each in self.running)
        return self.admission == SEATS

    def note_shortage(self) -> None:
        """Note that blocks are short now."""
        used = self.pool.num_blocks - 1 - self.pool.num_free
        if self.short_at_blocks is not None and used < self.short_at_blocks:
            self.short_at_blocks = used

    def horizon(self, owed: int = 0) -> int:
        """Return how many completions can pass with nothing to be seen; see `contract.Scheduler`."""
        running = self.ready()
        if not running or self._is_pipelined or self.preempted or (owed and len(self.waiting)):
            return -owed
        if owed and self._loading:
            return -owed  # somebody's bytes may have landed by now
        if self._has_tiers and (self.cache.has_moves or self.cache.writes_back):
            return -owed
        if owed and self._cache_expires:
            return -owed  # what has expired by now goes first
        if not all([sequence.decoding for sequence in running]):
            return -owed
        if self.has_token_budget and len(running) > self.config.max_num_batched_tokens:
            return -owed
        if not self.decode_batch_stays():
            return -owed
        limit = min([sequence.limit - sequence.outputs for sequence in running]) - 1
        free = self.pool.num_free - self.decode_spare_blocks
        schedules = limit + owed
        cache = self.cache
        if not cache.free_suffices or free < len(running) * (schedules // cache.block_size + 1):
            limit = self._count_affordable(schedules, free) - owed
        return max(limit, -owed)

    def _count_affordable(self, schedules: int, free: int) -> int:
        """Return how many of the coming decode steps are sure to find enough free blocks."""
        cache = self.cache
        for index, takers in zip(range(schedules), self._takers(), strict=False):
            needed = [each for each in takers if cache.capacity_tokens(each) <= each.computed + index]
            if needed and not cache.free_suffices:
                return index
            free -= len(needed)
            if free < 0:
                return index
        return schedules

    def _takers(self) -> Iterator[list[Sequence]]:
        """Yield, for each coming decode step in turn, whose last block will be full before it."""
        size = self.cache.block_size
        buckets: list[list[Sequence]] = [[] for _ in range(size)]
        for sequence in self.ready():
            buckets[-sequence.computed % size].append(sequence)
        while True:
            yield from buckets

    def forecast(self, schedules: int) -> Forecast:
        """Describe the decode batches of the coming schedules."""
        contexts = [sequence.computed + 1 for sequence in self.ready()]
        window = self.config.attention_window
        reads = sum_windows(contexts, window, schedules) if window else (0,)
        return Forecast([(len(contexts), sum(contexts))], window_tokens=reads)

    def advance(self, steps: int, owed: int = 0, usage: list[Usage] | None = None) -> tuple[Usage, Usage]:
        """Pass `steps` completions and `owed + steps` schedules at once, as `horizon` has promised."""
        if not owed:
            ended = self.complete()
            assert not ended, "a stretch never passes an end"
        schedules = steps + owed
        held = self._hold_blocks(schedules)
        if usage is not None:
            usage += held
        begin = self.steps
        self.steps += schedules
        ahead = schedules
        decoders = self.ready()
        if self._samples_cache:
            for sequence in decoders:
                sequence.computed += 1
            self.cache.sample(begin, decoders, schedules, len(decoders))
            ahead -= 1
        for sequence in decoders:
            sequence.computed += ahead
        if schedules > 1:
            self._give_tokens(begin, schedules - 1)
        self.preempted = []
        batch = Batch(self.steps - 1)
        batch.decoders = decoders[:]
        self._in_flight.append(batch)
        return held[0], held[-1]

    def _give_tokens(self, begin: int, count: int) -> None:
        """Give all who run a token from each of `count` steps, the first of which is `begin`."""
        order = self.order
        for sequence in self.ready():
            if sequence.token_steps is None and begin == sequence.first_token_step + sequence.outputs:
                sequence.outputs += count
                sequence.known += count
            else:
                for step in range(begin, begin + count):
                    sequence.note_tokens(step, 1)
            if order is not None:
                order.served(sequence, count)

    def _hold_blocks(self, schedules: int) -> list[Usage]:
        """Take the blocks of coming decode steps and publish what they fill; returns the usage after each.

        Within a step all are taken before any is published, as `decode` does.
        """
        cache, pool = self.cache, self.pool
        usable = pool.num_blocks - 1
        coming = self._takers()
        takers = next(coming)
        held = []
        for index in range(schedules):
            for sequence in takers:
                tokens = sequence.computed + index
                cache.grow(sequence, tokens, tokens + 1)
            takers = next(coming)
            for sequence in takers:
                if sequence.shared_limit:
                    cache.publish(sequence, sequence.computed + index + 1)
            held.append((usable - pool.num_free, pool.num_free_cached))
        return held
