"""Static batching: wait for a full batch or a timeout, then serve it to its end.

FasterTransformer behind a server that collects requests, as Yu et al. (Orca, OSDI 2022, section 2) describe
it.
"""

from __future__ import annotations

from typing import ClassVar

from simserve.registry import register
from simserve.scheduler.request_batches import RequestBatching


@register("engine", "static")
class StaticScheduler(RequestBatching):
    """Request-level batches of max_num_seqs, padded, run to the longest output (FasterTransformer).

    Options: `max_wait_s`, after which the oldest request goes with whoever is there; `context_phase`, how
    much of the prompts the first step computes: longest (padded, FasterTransformer 5) or shortest (the rest
    of the longer ones token by token, FasterTransformer 4); `run_to`, when a batch ends: with its longest
    output, or at max_tokens although all have ended (a generation without an end of its own).
    """

    option_defaults: ClassVar = {**RequestBatching.option_defaults, "max_wait_s": 1.0}
    wait_option = "max_wait_s"
    # `request_batch_size` in the configuration of FasterTransformer's examples.
    default_limits: ClassVar = {"max_num_seqs": 8}

    def choose_size(self) -> int:
        """All that fill a batch, or all that wait once the oldest has waited long enough."""
        waiting = len(self.waiting)
        if waiting >= self.config.max_num_seqs:
            return self.config.max_num_seqs
        return waiting if self.is_due() else 0
