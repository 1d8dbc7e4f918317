"""What an engine asks of a scheduler: the whole contract between `scheduler` and `engine`.

`BaseScheduler` (`base`) has all of it and leaves one decision to a policy; vLLM's and SGLang's schedulers
have their own. No scheduler sees a clock: the time of a decision is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from simserve.scheduler.batch import Batch, Forecast, Usage
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request


class Options(Protocol):
    """The one option that the loop itself reads."""

    @property
    def queue_depth(self) -> int:
        """Batches in flight at most: 1, 2 with asynchronous scheduling, or the pipeline's stages."""

    @property
    def async_scheduling(self) -> bool:
        """Whether a sequence is scheduled again before its last output is known."""


class Queue(Protocol):
    """Requests without a seat."""

    def __len__(self) -> int:
        """Return how many wait."""

    def __iter__(self) -> Iterator[Sequence]:
        """Yield them in the order in which they are to be served."""

    def head(self) -> Sequence:
        """Return the next one."""


class Units(Protocol):
    """KV memory in units (a block, a page), as the step log counts it; one unit is never handed out.

    Attributes:
        num_blocks: Units with that one.
        num_free: Those that no request holds.
        num_free_cached: Those of them that hold a prefix which can still be found.
    """

    num_blocks: int
    num_free: int
    num_free_cached: int


class Scheduler(Protocol):
    """Decides what runs in each step.

    Attributes:
        config: Its options.
        steps: Steps scheduled so far.
        running: Sequences with a seat.
        preempted: Those that the last schedule() took the seat of, in order.
        sequences: All that have not ended, by request id.
        connector: What moves between the GPU and the tiers behind it: the engine gives it its paths. None, or
            nothing of that name, without tiers.
    """

    config: Any
    steps: int
    running: list[Sequence]
    preempted: list[Sequence]
    sequences: dict[int, Sequence]

    @property
    def failed(self) -> Iterable[tuple[Sequence, str]]:
        """Sequences that the last schedule() has ended itself, each with the reason."""

    @property
    def waiting(self) -> Queue:
        """Those without a seat."""

    @property
    def pool(self) -> Units:
        """KV memory."""

    def add(self, request: Request, arrival_order: float, arrived_ns: int = 0) -> Sequence:
        """Queue a request; `arrival_order` breaks ties, `arrived_ns` is when it reached the engine."""

    def abort(self, request_id: int) -> Sequence | None:
        """Drop a request and free its memory at once; None if it has ended already."""

    def schedule(self, now_ns: int = 0) -> Batch | None:
        """Decide the next step; None if nothing can run now. May be called with batches in flight.

        Raises:
            SimulationError: If the real engine would crash here.
        """

    def complete(self) -> list[Sequence]:
        """Take the outputs of the oldest batch in flight; returns the sequences that ended with it."""

    def wake_at(self, now_ns: int) -> int | None:
        """Return when time alone will change a decision (a timeout, a deadline), None for never."""

    def idle(self) -> None:
        """Note that no request is left and nothing is in flight."""

    def horizon(self, owed: int = 0) -> int:
        """Return how many completions, each followed by a schedule, can pass with nothing to be seen.

        Nobody ends, is admitted or preempted, and every batch is the same decoders.

        Args:
            owed: 1 if a schedule is due before the first of them, else 0 and the engine holds as many
                batches in flight as it can.

        Returns:
            At least 0, or -1 if a schedule is owed that must really be made. `-owed` promises nothing.
        """

    def forecast(self, schedules: int) -> Forecast:
        """Describe the batches of the coming schedules, as far as `horizon` has promised them."""

    def advance(self, steps: int, owed: int = 0, usage: list[Usage] | None = None) -> tuple[Usage, Usage]:
        """Pass `steps` completions and `owed + steps` schedules at once, as `horizon` has promised.

        Args:
            steps: Completions.
            owed: 1 if a schedule comes before the first of them.
            usage: If given, that after each of the schedules is appended.

        Returns:
            The usage after the first and after the last of the schedules.
        """

    def expire(self, now_ns: int) -> None:
        """Drop cached prefixes that are too old.

        `schedule` does so too; after a stretch the engine calls this with the time of its last schedule.
        """

    def cached_prefix_tokens(self, request: Request) -> int:
        """Return how many tokens of a prompt the cache holds now; changes nothing."""

    def check_integrity(self) -> None:
        """Check that no unit is lost or owned twice. Raises IntegrityError."""
