"""FastServe: short requests first without knowing which they are, preempting after any token.

Wu et al., "Fast Distributed Inference Serving for Large Language Models", 2023 (arXiv 2305.05920; NSDI 2026);
what the paper leaves open is as in its code (github.com/LLMServe/FastServe at 6da4b75,
`fastserve/scheduler.py`).
"""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import Any, ClassVar

from simserve.errors import InputError
from simserve.registry import register
from simserve.scheduler.base import BaseScheduler
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.feedback_queue import FeedbackQueue, Job, join_level
from simserve.scheduler.parking import ParkingScheduler
from simserve.scheduler.sequence import RUNNING, Sequence
from simserve.workload.request import Request

# With less of the host's memory free no prompt begins.
_HOST_SHARE = 0.1
_GIB = 2**30


@register("engine", "fastserve")
class FastServeScheduler(ParkingScheduler):
    """Skip-join multi-level feedback queue, preemption at any token, proactive swapping (FastServe, 2023).

    The quantum of the first level is `base_quantum_s`, each further one's is twice as long. A request joins
    the level whose quantum covers the time of its prompt, sinks a level whenever it has used one up, and
    rises to the first if it has waited for `starvation_threshold_s` when the queues are searched, every
    `starvation_period_steps`. The highest ranks make the batch. Who is pushed out keeps his blocks until they
    are needed: the lowest ranks move to the host while fewer than max_num_seqs blocks are free, and the next
    in rank come back while more are, beside the steps (`proactive_offloading`).

    Options: those, and `swap_space`, GiB of host memory for each GPU. If it is full a victim is computed
    again, where the real engine stops.
    """

    option_defaults: ClassVar = {
        "base_quantum_s": 0.01,
        "starvation_threshold_s": 3.0,
        "starvation_period_steps": 1000,
        "proactive_offloading": True,
        "swap_space": 16.0,
    }
    unused_keys: ClassVar = (
        "long_prefill_token_threshold",
        "scheduler_reserve_full_isl",
        "scheduling_policy",
    )
    fixed_keys: ClassVar = {
        **BaseScheduler.fixed_keys,
        "enable_chunked_prefill": False,
        "enable_prefix_caching": False,
    }
    takes_order = False
    takes_cache = False
    # The scenario tells it how long prompts take (`SchedulerConfig.prefill_profile`).
    wants_prefill_profile = True

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        self._jobs: dict[int, Job] = {}
        super().__init__(config, jump=jump, **options)
        if not self.host_blocks:
            raise InputError(
                "kind fastserve moves KV blocks to the host, and swap_space "
                f"{self.options['swap_space']:g} GiB holds none; expected a larger swap_space"
            )
        self._quantum_ns = round(self.options["base_quantum_s"] * 1e9)
        period = self.options["starvation_period_steps"]
        if self._quantum_ns < 1 or not isinstance(period, int) or period < 1:
            raise InputError("base_quantum_s and starvation_period_steps: expected numbers above 0")
        self.short_at_blocks = None  # who runs is chosen by rank before any block is asked for
        self._reserve = config.max_num_seqs if self.options["proactive_offloading"] else 0

    def count_host_blocks(self) -> int:
        """Return how many blocks `swap_space` holds."""
        return int(self.options["swap_space"] * _GIB) // max(1, self.config.block_bytes)

    def build_queue(self) -> Any:
        """Return the queues by level."""
        return FeedbackQueue(self._jobs)

    def _build_order(self) -> None:
        """The levels are its order."""

    def add(self, request: Request, arrival_order: float, arrived_ns: int = 0) -> Sequence:
        """Queue a request on the level whose quantum covers its prompt."""
        level = join_level(self.config.prefill_profile, request.prompt_tokens, self._quantum_ns)
        self._jobs[request.id] = Job(level, arrived_ns)
        return super().add(request, arrival_order, arrived_ns)

    # -- the decision --------------------------------------------------------------------------------------

    def decide(self) -> None:
        """The highest ranks run, as many as fit."""
        for sequence in self.ready():
            self._jobs[sequence.request.id].serve(self.now_ns, self._quantum_ns)
        if not self.steps % self.options["starvation_period_steps"]:
            self._promote()
        chosen = self._choose()
        has_swapped = self._make_room(chosen)
        self.decode()
        for sequence in chosen:
            self._jobs[sequence.request.id].since_ns = self.now_ns
            if sequence.status != RUNNING:
                self._start(sequence)
        if self._reserve and not has_swapped:
            self._fetch_next()

    def decode_batch_stays(self) -> bool:
        """With nobody waiting, nobody's rank matters."""
        return not len(self.waiting)

    def _promote(self) -> None:
        """Put those first on the highest level who have waited too long."""
        patience_ns = self.options["starvation_threshold_s"] * 1e9
        starving = [
            each for each in self.waiting if self.now_ns - self._jobs[each.request.id].since_ns >= patience_ns
        ]
        for sequence in starving:
            self.waiting.discard(sequence)
            self._jobs[sequence.request.id].promote()
            self.waiting.push(sequence)

    def _choose(self) -> list[Sequence]:
        """Return the highest ranks, as many as there are seats and tokens for."""
        rank = self.waiting.rank
        running = self.ready()
        seats = self.config.max_num_seqs - len(self.running) + len(running)
        host_is_full = self.host_free < _HOST_SHARE * self.host_blocks
        chosen: list[Sequence] = []
        tokens = 0
        for sequence in merge(sorted(running, key=rank), self.waiting, key=rank):
            if host_is_full and not sequence.computed:
                continue
            tokens += sequence.known - sequence.computed
            if len(chosen) == seats or tokens > self.budget:
                break
            chosen.append(sequence)
        return chosen

    def _start(self, sequence: Sequence) -> None:
        """Give a chosen one its seat, and let it compute its prompt or go on; its blocks are free."""
        if not sequence.computed:
            self.admit(sequence, whole=True)
            return
        self._unpark(sequence)
        self.run(sequence)

    # -- memory --------------------------------------------------------------------------------------------

    def _make_room(self, chosen: list[Sequence]) -> bool:
        """Take seats and blocks of the others; returns whether blocks have moved to the host.

        Mutates `chosen`: its last ones drop out while the blocks do not suffice.
        """
        keeps = {sequence.request.id for sequence in chosen}
        for sequence in [each for each in self.ready() if each.request.id not in keeps]:
            self._park(sequence)
        need = sum(self._blocks_of_next_step(each) for each in chosen)
        others = self._list_others(keeps)
        has_swapped = False
        while others and need + self._reserve > self.pool.num_free:
            self._offload(others.pop(), awaited=need > self.pool.num_free)
            has_swapped = True
        while chosen and need > self.pool.num_free:
            last = chosen.pop()
            need -= self._blocks_of_next_step(last)
            if last.status == RUNNING:
                self._park(last)
            if last.request.id in self._parked:
                self._offload(last)
                has_swapped = True
        return has_swapped

    def _list_others(self, keeps: set[int]) -> list[Sequence]:
        """Return, the highest rank first, those that keep blocks without a seat, but for `keeps`."""
        others = [each for request_id, each in self._parked.items() if request_id not in keeps]
        return sorted(others, key=self.waiting.rank)

    def _blocks_of_next_step(self, sequence: Sequence) -> int:
        size = self.cache.block_size
        holds = sequence.status == RUNNING or sequence.request.id in self._parked
        held = self.cache.capacity_tokens(sequence) // size if holds else 0
        return int(-(-sequence.known // size) - held)

    def _park(self, sequence: Sequence) -> None:
        """Take a sequence's seat and leave it its blocks; from now on it waits."""
        self._jobs[sequence.request.id].since_ns = self.now_ns
        super()._park(sequence)

    def _fetch_next(self) -> None:
        """Bring those back who are next in rank, while blocks are left beyond the reserve."""
        for sequence in islice(self.waiting, self.config.max_num_seqs):
            blocks = self._moved.get(sequence.request.id)
            if blocks is not None and self.pool.num_free >= self._reserve + blocks:
                self._fetch(sequence, awaited=False)
                self._coming.add(sequence.request.id)

    # -- books ---------------------------------------------------------------------------------------------

    def _forget(self, sequence: Sequence) -> None:
        super()._forget(sequence)
        del self._jobs[sequence.request.id]
