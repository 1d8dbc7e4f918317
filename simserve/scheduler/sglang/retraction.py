"""Who keeps running when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.row import Row

# Where a client gave no priority, it has the lowest.
_EXTREME = (1 << 63) - 1


def order_to_keep(rows: list[Row], config: SglangConfig, generated: Callable[[Row], int]) -> list[Row]:
    """Return the rows with those to keep first: retraction takes from the end.

    `length`: most generated tokens, then shortest prompt; `priority`: highest priority before that.

    Args:
        rows: The running batch.
        config: Its `retraction_policy`.
        generated: Outputs of a row.
    """
    if config.retraction_policy == "priority":
        low_first = config.schedule_low_priority_values_first
        sign = -1 if low_first else 1
        missing = _EXTREME if low_first else -_EXTREME - 1

        def rank(row: Row) -> tuple[int, int, int]:
            priority = missing if row.priority is None else row.priority
            return (priority * sign, generated(row), -row.request.prompt_tokens)

        return sorted(rows, key=rank, reverse=True)
    return sorted(rows, key=lambda row: (generated(row), -row.request.prompt_tokens), reverse=True)
