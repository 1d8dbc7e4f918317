"""Priority preemption: a waiting request takes the rows of running ones of lower priority."""

from __future__ import annotations

from collections.abc import Callable

from simserve.scheduler.sequence import RUNNING
from simserve.scheduler.sglang.budget import CLIP_MAX_NEW_TOKENS, PrefillBudget
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.row import Row


def choose_victims(
    candidate: Row,
    rows: list[Row],
    budget: PrefillBudget,
    config: SglangConfig,
    generated: Callable[[Row], int],
) -> list[Row]:
    """Return whom a request may preempt, lowest priority and latest first; nobody if that would not do.

    What the candidate needs is counted with its length as of its last look into the tree, as SGLang does.

    Args:
        candidate: The waiting request.
        rows: The running batch.
        budget: Of this pass: what the victims reserve becomes free in it.
        config: Its threshold, which the difference of priorities must exceed, and which values go first.
        generated: Outputs of a row.
    """
    sign = -1 if config.schedule_low_priority_values_first else 1
    threshold = config.priority_scheduling_preemption_threshold
    short = candidate.filled - candidate.prefix + min(candidate.max_new, CLIP_MAX_NEW_TOKENS)
    missing = short - budget.rem_total
    own = _priority(candidate)
    victims: list[Row] = []
    alive = [row for row in rows if row.status == RUNNING]
    for row in sorted(alive, key=lambda row: (_priority(row) * sign, -row.stamp)):
        if (own - _priority(row)) * sign <= threshold:
            break
        victims.append(row)
        missing -= budget.reserve_of(row, generated(row))
        if missing <= 0:
            return victims
    return []


def _priority(row: Row) -> int:
    return row.priority or 0
