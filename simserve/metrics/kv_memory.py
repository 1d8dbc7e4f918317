"""Where KV memory went that is no common pool of blocks: regions in one piece, ranks with their own pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.kvcache.fragmentation import FragmentationLog
from simserve.kvcache.tier import TierCounts
from simserve.metrics.columns import as_ints, joined
from simserve.metrics.record import StepLog

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("used", "later", "unused", "rounded", "free", "largest_hole")
_SUMS = ("used_sum", "later_sum", "unused_sum", "rounded_sum", "free_sum", "scattered_sum")
_COUNTS = ("refused", "refused_by_fragmentation", "moves", "moved_tokens")


def summarise_fragmentation(logs: Sequence[StepLog]) -> dict[str, Any]:
    """Return `kv_fragmentation`: mean shares of the memory over all steps, and counts.

    Args:
        logs: The engines' steps; those whose KV memory is paged count for nothing.

    Returns:
        Nothing if all are of that kind.
    """
    found = [log.fragmentation for log in logs if log.fragmentation is not None]
    if not found:
        return {}
    total = FragmentationLog(sum(each.capacity_tokens for each in found))
    places = 0
    for each in found:
        places += each.steps * each.capacity_tokens
        for name in (*_SUMS, *_COUNTS):
            setattr(total, name, getattr(total, name) + getattr(each, name))
    figures = total.shares_of(places)
    return {"kv_fragmentation": figures | {name: getattr(total, name) for name in _COUNTS}}


def summarise_tiers(logs: Sequence[StepLog]) -> dict[str, Any]:
    """Return `kv_tiers`: what each tier behind the KV memory was asked and has moved, by name; or nothing.

    Args:
        logs: The engines' steps; tiers of one name are added up.
    """
    totals: dict[str, TierCounts] = {}
    for log in logs:
        for name, counts in (log.tiers or {}).items():
            total = totals.setdefault(name, TierCounts())
            for field in fields(TierCounts):
                setattr(total, field.name, getattr(total, field.name) + getattr(counts, field.name))
    if not totals:
        return {}
    return {"kv_tiers": {name: {"hit_rate": each.hit_rate, **asdict(each)} for name, each in totals.items()}}


def summarise_paths(logs: Sequence[StepLog], duration_s: float) -> dict[str, Any]:
    """Return `kv_paths`: how long each path has moved KV entries, by name; nothing where none did.

    Args:
        logs: The engines' steps.
        duration_s: Of the run; the share is that of an engine's path, the mean over all that have one.
    """
    busy_ns: dict[str, list[int]] = {}
    for log in logs:
        for name, nanoseconds in log.paths.items():
            busy_ns.setdefault(name, []).append(nanoseconds)
    if not busy_ns:
        return {}
    return {
        "kv_paths": {
            name: {
                "busy_s": sum(each) / 1e9,
                "busy_share": sum(each) / 1e9 / len(each) / duration_s if duration_s else None,
            }
            for name, each in sorted(busy_ns.items())
        }
    }


def summarise_imbalance(logs: Sequence[StepLog]) -> dict[str, Any]:
    """Return `kv_imbalance`: how evenly blocks lay on ranks with pools of their own; nothing without such."""
    found = [log.shards for log in logs if log.shards is not None]
    if not found:
        return {}
    used = sum(each.used_sum for each in found)
    fullest = sum(each.fullest_sum * each.ranks for each in found)
    places = sum(each.steps * each.ranks * each.blocks_per_rank for each in found)
    figures: dict[str, Any] = {
        "ranks": max(each.ranks for each in found),
        "fullest_over_mean": fullest / used if used else None,
        "stranded": (fullest - used) / places if places else None,
        "worst_stranded_blocks": max(each.worst for each in found),
        "refused": sum(each.refused for each in found),
        "refused_by_imbalance": sum(each.refused_by_imbalance for each in found),
    }
    return {"kv_imbalance": figures}


def kv_memory_table(logs: Sequence[StepLog]) -> pa.Table:
    """Return a row a change: the tokens of each part of the memory from a step of an engine on."""
    from simserve.metrics import arrow

    found = [(log.instance, each) for log in logs if (each := log.fragmentation) is not None]
    found.sort(key=lambda pair: pair[0])
    instances = joined([np.full(len(each.step), number, dtype=np.int64) for number, each in found])
    columns = {"instance": arrow.small_ints(instances)}
    columns["step"] = arrow.small_ints(joined([as_ints(each.step) for _, each in found]))
    for name in _COLUMNS:
        values = joined([as_ints(getattr(each, name)) for _, each in found])
        columns[f"{name}_tokens"] = arrow.ints(values)
    return arrow.table(columns)
