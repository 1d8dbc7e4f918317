"""Request-level batching: a batch of requests is formed, runs to its longest output's end, and returns.

As FasterTransformer serves behind a batcher, and as Orca's paper describes it (Yu et al., OSDI 2022,
section 2): prompts are padded to the longest, a request that has ended keeps its seat and its memory, and
nobody gets a token before everybody has all. What padding and idle seats compute is work of the step, and
waste.

FasterTransformer 4 does not pad: it computes as much of each prompt as the shortest has, and feeds the rest
of the longer ones token by token, in the steps in which the shorter ones have their outputs
(`DecodingGpt::forward` in `fastertransformer/gpt.h`; its Triton backend sets `request_input_len`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from simserve.cost.timer import Chunk
from simserve.errors import InputError
from simserve.scheduler.batch import Batch, Forecast, Usage, sum_windows
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.decode_stretch import SEATS
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.unbudgeted import UnbudgetedScheduler


class RequestBatching(UnbudgetedScheduler):
    """A base for policies that choose how many requests make a batch, and how long to wait for them.

    Attributes:
        padding_tokens: Tokens computed so far for padding and for seats whose request has ended.
    """

    # Nobody joins a batch that runs.
    joins_running = False
    # Who waits for a batch waits in front of the engine, which has nothing to do meanwhile.
    collects_batches = True
    # Whether the first step computes prompts padded to the longest, or as far as the shortest goes; whether a
    # batch ends with its longest output, or with the most that any of its requests may have.
    option_defaults: ClassVar[Mapping[str, Any]] = {"context_phase": "longest", "run_to": "longest"}
    # The option that says how long the oldest request waits for others, s.
    wait_option: ClassVar[str] = ""

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        super().__init__(config, jump=jump, **options)
        self.padding_tokens = 0
        for name, other in (("context_phase", "shortest"), ("run_to", "max_tokens")):
            if self.options[name] not in ("longest", other):
                raise InputError(f"{name} is longest or {other}, not {self.options[name]!r}")
        self._pads = self.options["context_phase"] == "longest"
        self._stops = self.options["run_to"] == "longest"
        # Of the batch that runs: its seats, the prompt tokens of each in its first step, the tokens that each
        # seat has computed, and how many steps there are until the last one ends, whoever gives up meanwhile.
        self._rows = 0
        self._first_tokens = 0
        self._computed = 0
        self._missing = 0

    def choose_size(self) -> int:
        """Return how many of the waiting requests begin now, 0 for waiting longer. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no choose_size()")

    def wake_at(self, now_ns: int) -> int | None:
        """Return when the oldest waiting request has waited long enough; None while a batch runs."""
        if self.running or not len(self.waiting):
            return None
        oldest: int = min(sequence.arrived_ns for sequence in self.waiting)
        wait_s: float = self.options[self.wait_option]
        return oldest + round(wait_s * 1e9)

    def is_due(self) -> bool:
        """Whether the oldest waiting request has waited long enough."""
        due = self.wake_at(self.now_ns)
        return due is not None and due <= self.now_ns

    def is_empty(self, batch: Batch) -> bool:
        """Whether nothing runs in a step: a batch in flight goes on only after it, ended seats and all."""
        return bool(self._in_flight) or not self.running

    def decide(self) -> None:
        """Go on with the batch that runs; form one if none does."""
        if self.running:
            self.admission = SEATS
            if not self._in_flight:
                self._go_on()
            return
        if self._in_flight:
            return  # all have given up; the next batch begins when their last step has ended
        size = min(self.choose_size(), self.config.max_num_seqs)
        head = [sequence for sequence, _ in zip(self.waiting, range(size), strict=False)]
        self._rows = 0
        while head and not self._rows:
            self._form(head)
            head = [] if self._rows or len(head) == 1 else head[: len(head) // 2]

    def _form(self, requests: list[Sequence]) -> None:
        """Admit requests together, if memory holds each padded to the longest prompt and output."""
        prompts = [sequence.request.prompt_tokens for sequence in requests]
        longest = max(prompts)
        outputs = max(sequence.request.max_tokens for sequence in requests)
        held = min(longest + outputs, self.config.max_model_len)
        each = -(-held // self.cache.block_size)
        if len(requests) > 1 and each * len(requests) > self.pool.num_free:
            return
        self._first_tokens = longest if self._pads else min(prompts)
        for sequence in requests:
            if not self.admit(sequence, self._first_tokens, hold_tokens=held):
                return
        self._rows, self._computed = len(requests), 0
        self._missing = max(self._count_steps(sequence) for sequence in requests)

    def _count_steps(self, sequence: Sequence) -> int:
        """Return in how many steps a request has all its tokens."""
        prompt = sequence.request.prompt_tokens
        limit = sequence.limit
        if not self._stops:
            limit = max(limit, min(sequence.request.max_tokens, self.config.max_model_len - prompt))
        return limit + max(0, prompt - self._first_tokens)

    def _go_on(self) -> None:
        """Compute a token of each that has not ended: its last output, or the next one of its prompt."""
        unfinished = [sequence for sequence in self.running if sequence.outputs < sequence.limit]
        self._take_decoders([sequence for sequence in unfinished if sequence.decoding])
        for sequence in unfinished:
            if not sequence.decoding:
                self._take_chunk(sequence, 1)

    def measure(self, batch: Batch) -> None:
        """Write the shape of a step, padding and idle seats included."""
        rows = self._rows
        batch.samples = rows
        if not self._computed:
            self._computed = self._first_tokens
            batch.chunks = [Chunk(self._first_tokens, 0)] * rows
            batch.prefill_tokens = rows * self._first_tokens
            self.padding_tokens += batch.prefill_tokens - sum([entry.tokens for entry in batch.entries])
            return
        self._computed += 1
        batch.decodes = rows
        batch.context_tokens = rows * self._computed
        if self.config.attention_window:
            batch.window_tokens = rows * min(self._computed, self.config.attention_window)
        self.padding_tokens += rows - len(batch.decoders) - len(batch.entries)

    # -- outputs -------------------------------------------------------------------------------------------

    def complete(self, batch: Batch | None = None) -> list[Sequence]:
        """Take the outputs of the batch in flight; all requests return with the last token of the longest."""
        step = self._in_flight[0].step
        super().complete(batch)
        self._missing -= 1
        if self._missing > 0:
            return []
        ended = self.running[:]
        for sequence in ended:
            self._return(sequence, step)
        return ended

    def _finish(self, sequence: Sequence, step: int) -> None:
        """Let a request that has ended keep its seat."""
        sequence.finish_step = step

    def _return(self, sequence: Sequence, step: int) -> None:
        """Hand over all tokens of a request at once."""
        begin, last = sequence.first_token_step, sequence.finish_step
        sequence.spans = [("prefill", sequence.first_step, begin, sequence.request.prompt_tokens)]
        if sequence.outputs > 1:
            sequence.spans.append(("decode", begin + 1, last, sequence.outputs - 1))
        given = sequence.outputs
        sequence.outputs, sequence.known = 0, sequence.request.prompt_tokens
        sequence.first_token_step, sequence.token_steps = -1, None
        sequence.note_tokens(step, given)
        sequence.finish_step = step
        self.running.remove(sequence)
        self._forget(sequence)

    # -- stretches -----------------------------------------------------------------------------------------

    def horizon(self, owed: int = 0) -> int:
        """Return how many completions can pass: until the longest output ends nothing happens."""
        if not self.running or self._is_pipelined or not all(each.decoding for each in self.running):
            return -owed
        return self._missing - 1

    def forecast(self, schedules: int) -> Forecast:
        """Describe the decode batches of the coming schedules."""
        contexts = [self._computed + 1] * self._rows
        window = self.config.attention_window
        reads = sum_windows(contexts, window, schedules) if window else (0,)
        return Forecast([(self._rows, sum(contexts))], window_tokens=reads)

    def advance(self, steps: int, owed: int = 0, usage: list[Usage] | None = None) -> tuple[Usage, Usage]:
        """Pass `steps` completions and `owed + steps` schedules at once, as `horizon` has promised."""
        if not owed:
            self.complete()
        schedules = steps + owed
        first = self.steps
        self.steps += schedules
        self._computed += schedules
        self._missing -= schedules - 1
        self.preempted = []
        self.padding_tokens += schedules * self._rows
        batch = Batch(self.steps - 1)
        batch.decoders = []
        for sequence in self.running:
            left = sequence.limit - sequence.outputs
            taken = min(schedules, left)
            given = min(schedules - 1, left)
            sequence.computed += taken
            self.padding_tokens -= taken
            self._give(sequence, first, given)
            if left > schedules - 1:
                batch.decoders.append(sequence)
        self._in_flight.append(batch)
        held = (self.pool.num_blocks - 1 - self.pool.num_free, self.pool.num_free_cached)
        if usage is not None:
            usage += [held] * schedules
        return held, held

    def _give(self, sequence: Sequence, first: int, count: int) -> None:
        """Note `count` tokens, one from each step from `first` on."""
        if not count:
            return
        sequence.outputs += count
        sequence.known += count
        if self.order is not None:
            self.order.served(sequence, count)
        if sequence.outputs == sequence.limit:
            sequence.finish_step = first + count - 1
