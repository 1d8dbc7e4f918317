"""The record of a run: what every engine wrote, in columns. Every figure is derived from it afterwards.

Times are integer nanoseconds of the simulated clock. A step's number counts the steps of its instance from 0.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from struct import pack

from simserve.kvcache.fragmentation import FragmentationLog
from simserve.kvcache.prefix_counts import PrefixCounts
from simserve.kvcache.shard_log import ShardLog
from simserve.kvcache.tier import TierCounts


def _int64() -> array[int]:
    return array("q")


def extend_column(column: array[int], values: Sequence[int]) -> None:
    """Append integers to a column; for hundreds at once several times as fast as `array.extend`."""
    column.frombytes(pack(f"{len(values)}q", *values))


# Status of a request at the end of the run.
COMPLETED, FAILED, UNFINISHED = "completed", "failed", "unfinished"


@dataclass(slots=True)
class StepLog:
    """Steps of one engine: end times of all, and one row a stretch of steps with the same batch.

    Attributes:
        instance: Number of the engine, counted through the cluster: an instance, or a data-parallel rank.
        num_blocks: Usable KV blocks of the engine.
        end_ns: End of step i (last pipeline stage), non-decreasing.
        first_step, steps: The stretch: its first step's number and how many steps it has.
        start_ns: When the stretch's first step started to execute.
        prefill_tokens, decode_tokens: Tokens per step of the stretch (the same in each of its steps).
        running, waiting: Requests running (in the scheduler's running list) and waiting, as of the
            stretch's start, after that step's schedule().
        used_blocks: KV blocks owned by running requests, likewise.
        cached_blocks: KV blocks that nobody owns and that hold a prefix which can still be found, likewise.
        rank: Which data-parallel rank of its instance it is.
        padding_tokens: Tokens that its steps computed for padding and for idle seats; None if its kind never
            pads.
        short_at_blocks: The fewest blocks in use at which a request found too few, those of a full pool if
            none did; None if its kind does not tell.
        fragmentation: Where its KV memory went, if requests have it in one piece each.
        shards: How evenly blocks lay on the ranks that share each sequence, if those have pools of their own.
        tiers: What the tiers behind its KV memory were asked and have moved, by name; None without any.
        paths: For how many ns each path has moved KV entries, by name: swaps, and to and from tiers.
    """

    instance: int
    num_blocks: int
    end_ns: array[int] = field(default_factory=_int64)
    first_step: array[int] = field(default_factory=_int64)
    steps: array[int] = field(default_factory=_int64)
    start_ns: array[int] = field(default_factory=_int64)
    prefill_tokens: array[int] = field(default_factory=_int64)
    decode_tokens: array[int] = field(default_factory=_int64)
    running: array[int] = field(default_factory=_int64)
    waiting: array[int] = field(default_factory=_int64)
    used_blocks: array[int] = field(default_factory=_int64)
    cached_blocks: array[int] = field(default_factory=_int64)
    rank: int = 0
    padding_tokens: int | None = None
    short_at_blocks: int | None = None
    fragmentation: FragmentationLog | None = None
    shards: ShardLog | None = None
    tiers: Mapping[str, TierCounts] | None = None
    paths: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class RequestLog:
    """Requests of the whole run, a row each, in the order in which they ended (then unfinished ones by id).

    Attributes:
        arrival_ns: When the client sent it (a due request held back by the client's own cap is not sent yet).
        instance: Number of the engine (its step log's), -1 if it never reached one.
        first_step: First step in which it was scheduled, -1 if never.
        first_token_step: The step that sampled its first token, -1 if none.
        finish_step: The step that sampled its last token, -1 if it did not complete.
        output_tokens: Tokens generated.
        cached_tokens: Prompt tokens found in the prefix cache at first admission.
        status: COMPLETED, FAILED or UNFINISHED.
        reason: "length" or "stop" when completed, else why not ("rejected: queue full", "timeout", ...).
        end_ns: When it ended for the client: end of the finish step, or the moment it failed; -1 unfinished.
        token_steps: By request id, the step of every generated token where that is not simply
            first_token_step, first_token_step + 1, ..., finish_step; else absent.
        spans: By request id, `(kind, first_step, last_step, tokens)` in order, kinds "prefill", "decode",
            "preempted" (tokens 0) and "transfer", where the request was not simply: one prefill from
            first_step to first_token_step, then decode to finish_step; else absent.
        prefixes: Which prefixes they found in the cache.
    """

    request_id: array[int] = field(default_factory=_int64)
    session: list[str] = field(default_factory=list)
    tenant: list[str] = field(default_factory=list)
    slo_class: list[str] = field(default_factory=list)
    arrival_ns: array[int] = field(default_factory=_int64)
    prompt_tokens: array[int] = field(default_factory=_int64)
    output_tokens: array[int] = field(default_factory=_int64)
    cached_tokens: array[int] = field(default_factory=_int64)
    instance: array[int] = field(default_factory=_int64)
    first_step: array[int] = field(default_factory=_int64)
    first_token_step: array[int] = field(default_factory=_int64)
    finish_step: array[int] = field(default_factory=_int64)
    end_ns: array[int] = field(default_factory=_int64)
    preemptions: array[int] = field(default_factory=_int64)
    status: list[str] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    token_steps: dict[int, array[int]] = field(default_factory=dict)
    spans: dict[int, list[tuple[str, int, int, int]]] = field(default_factory=dict)
    prefixes: PrefixCounts = field(default_factory=PrefixCounts)
