"""Dynamic batching: a batch goes when it has a preferred size, or when its oldest request has waited enough.

The dynamic batcher of NVIDIA Triton Inference Server (documentation, "Dynamic Batcher":
`preferred_batch_size`, `max_queue_delay_microseconds`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from simserve.errors import InputError
from simserve.registry import register
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.request_batches import RequestBatching


@register("engine", "dynamic")
class DynamicScheduler(RequestBatching):
    """Request-level batches of preferred sizes, with a maximum queue delay (Triton's dynamic batcher).

    Options: `preferred_batch_size`, a list of sizes (default: max_num_seqs alone); `max_queue_delay_s`;
    `context_phase` and `run_to`, as for kind static.
    """

    option_defaults: ClassVar = {
        **RequestBatching.option_defaults,
        "preferred_batch_size": None,
        "max_queue_delay_s": 0.0,
    }
    wait_option = "max_queue_delay_s"
    default_limits: ClassVar = {"max_num_seqs": 8}

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        super().__init__(config, jump=jump, **options)
        given = self.options["preferred_batch_size"]
        sizes: tuple[int, ...] = (config.max_num_seqs,)
        if given is not None:
            sizes = given if isinstance(given, tuple) else (given,)
        for size in sizes:
            if not isinstance(size, int) or not 1 <= size <= config.max_num_seqs:
                raise InputError(
                    f"preferred_batch_size: expected sizes from 1 to max_num_seqs ({config.max_num_seqs}), "
                    f"got {size!r}"
                )
        self._sizes = sorted(sizes, reverse=True)

    def choose_size(self) -> int:
        """The largest preferred size that is there; else, once the delay is over, all that wait."""
        waiting = len(self.waiting)
        for size in self._sizes:
            if size <= waiting:
                return size
        return waiting if self.is_due() else 0
