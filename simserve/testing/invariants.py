"""What must hold for every scheduler at every moment; a check raises an IntegrityError if it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from simserve.errors import IntegrityError
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig


def check_decision(scheduler: Any, config: SchedulerConfig, batch: Batch | None) -> None:
    """Check a batch against the limits of a step: token budget (if the kind has one), seats, memory.

    Raises:
        IntegrityError: If the batch is empty or over a limit, or blocks do not add up.
    """
    if len(scheduler.running) > config.max_num_seqs:
        raise IntegrityError(f"{len(scheduler.running)} running requests, max_num_seqs {config.max_num_seqs}")
    if batch is not None:
        tokens = batch.prefill_tokens + batch.decodes
        bounded = getattr(scheduler, "has_token_budget", True)
        if tokens <= 0 or (bounded and tokens > config.max_num_batched_tokens):
            raise IntegrityError(
                f"step {batch.step}: {tokens} tokens, max_num_batched_tokens {config.max_num_batched_tokens}"
            )
        if batch.samples < 0 or batch.used_blocks >= config.num_gpu_blocks:
            raise IntegrityError(f"step {batch.step}: {batch.used_blocks} of {config.num_gpu_blocks} blocks")
    scheduler.check_integrity()


def check_population(
    scheduler: Any, added: Iterable[int], finished: Iterable[int], aborted: Iterable[int]
) -> None:
    """Check that every request is in exactly one place: waiting, running, finished or aborted.

    Raises:
        IntegrityError: If a request is lost, or in two places.
    """
    places = Counter(sequence.request.id for sequence in scheduler.running)
    places.update(sequence.request.id for sequence in scheduler.waiting)
    places.update(finished)
    places.update(aborted)
    twice = [request_id for request_id, count in places.items() if count > 1]
    if twice:
        raise IntegrityError(f"requests {sorted(twice)[:8]} are in two places")
    lost = set(added) ^ set(places)
    if lost:
        raise IntegrityError(f"requests {sorted(lost)[:8]} are lost")
    scheduler.check_integrity()
