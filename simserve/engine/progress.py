"""Why an engine makes no progress: what holds the KV memory that somebody needs, and what would help.

The texts hold no figure of a single request: the summary counts failures by their reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simserve.scheduler.contract import Scheduler
from simserve.scheduler.decode_stretch import BUDGET, MEMORY
from simserve.scheduler.sequence import Sequence


def explain_stuck(scheduler: Scheduler, head: Sequence) -> str:
    """Return why nobody serves the head of the queue, though nothing runs and nothing will change."""
    config = scheduler.config
    # The kinds of real engines do not tell why they admit nobody: they admit all that they can.
    tells = getattr(scheduler, "short_at_blocks", None) is not None
    admission = getattr(scheduler, "admission", MEMORY) if tells else MEMORY
    if admission == BUDGET:
        return f"its tokens do not fit into a step ({config.max_num_batched_tokens} tokens)"
    if admission != MEMORY and -(-head.known // config.block_size) <= scheduler.pool.num_free:
        return "the policy scheduled nothing although it could"
    return explain_shortage(scheduler, head)


def explain_shortage(scheduler: Scheduler, sequence: Sequence) -> str:
    """Return why a sequence does not get the KV blocks that it needs, and which options would help."""
    drafts = _lookahead(scheduler.config)
    needs = f"its tokens and the slots of {drafts} drafts" if drafts else "its tokens"
    text = f"{needs} do not fit into the KV pool of {scheduler.pool.num_blocks - 1:,} blocks"
    helps = ["raise gpu_memory_utilization or num_gpu_blocks_override"]
    if any(each is not sequence for each in _list_holders(scheduler)):
        text += " beside those that other waiting requests hold"
        if getattr(scheduler, "connector", None) is not None:
            text += " for what was loaded for them from a tier"
            helps.append("set kv_cache.load to blocking")
    if drafts:
        helps.append("lower num_speculative_tokens")
    return f"{text}; {', or '.join(helps)}"


def explain_standstill(scheduler: Scheduler) -> str:
    """Return what is held where nobody waits and the running requests get no step."""
    pool, running = scheduler.pool, scheduler.running
    used = pool.num_blocks - 1 - pool.num_free
    text = f"{len(running)} running requests hold {used:,} of {pool.num_blocks - 1:,} KV blocks"
    if not pool.num_free:
        return f"{text}, and each needs another; raise gpu_memory_utilization or num_gpu_blocks_override"
    return f"{text}, {pool.num_free:,} are free, and the policy schedules nobody"


def _list_holders(scheduler: Scheduler) -> Iterable[Sequence]:
    """Return those of the waiting that keep KV blocks: vLLM's those for whom something has been loaded."""
    list_parked = getattr(scheduler, "list_parked", None)
    if list_parked is None:
        return [sequence for sequence in scheduler.waiting if sequence.computed]
    parked: Iterable[Sequence] = list_parked()
    return parked


def _lookahead(config: Any) -> int:
    """Return the KV slots of each step that the draft model fills."""
    speculative = getattr(config, "speculative", None)
    return int(speculative.lookahead_tokens) if speculative is not None else 0
