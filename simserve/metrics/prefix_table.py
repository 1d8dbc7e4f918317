"""The prefixes that saved the most work, and whether they are still in memory at the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simserve.kvcache.prefix_counts import PrefixCounts, SharedPrefix
from simserve.kvcache.prefix_keys import PRIVATE_STREAM_BASE
from simserve.workload.request import Request, Segment

if TYPE_CHECKING:
    import pyarrow as pa

# Prefixes that are listed: enough to see what matters, few enough to look them up in every instance.
MOST_PREFIXES = 50
# Ids of requests that only look: caches remember whom they were asked about last, so each has its own.
_FIRST_ID = -2
# Tokens of a prompt that an instance's cache holds, as a router asks for them; changes nothing.
Peek = Callable[[Request], int]


class HeldPrefix(NamedTuple):
    """A prefix, and what of it can still be found.

    Attributes:
        prefix: The prefix.
        instances: How many engines hold any of its run.
        tokens: Tokens of its run that they hold, all together.
    """

    prefix: SharedPrefix
    instances: int
    tokens: int


def find_held(counts: PrefixCounts, peeks: Sequence[Peek]) -> list[HeldPrefix]:
    """Return the prefixes that saved the most, and look each up in every engine.

    Args:
        counts: What was hit in the run.
        peeks: One an engine.
    """
    found = []
    for number, prefix in enumerate(counts.largest(MOST_PREFIXES)):
        length = prefix.prefix_tokens
        # Its last token always misses, so it gets one that nobody has.
        prompt = (*prefix.segments, Segment(PRIVATE_STREAM_BASE, 0, 1))
        request = Request(
            _FIRST_ID - number, 0, prompt, length + 1, 1, 1, PRIVATE_STREAM_BASE - 1, shared_tokens=length
        )
        held = [max(0, peek(request) - (length - prefix.tokens)) for peek in peeks]
        found.append(HeldPrefix(prefix, sum(map(bool, held)), sum(held)))
    return found


def prefix_table(prefixes: Sequence[HeldPrefix]) -> pa.Table:
    """Return a row a prefix, the one that saved the most tokens first."""
    from simserve.metrics import arrow

    rows = [
        (
            prefix.segments[-1].stream, prefix.prefix_tokens, prefix.tokens, prefix.requests,
            prefix.saved_tokens, instances, tokens,
        )
        for prefix, instances, tokens in prefixes
    ]  # fmt: skip
    names = (
        "stream", "prefix_tokens", "tokens", "requests", "saved_tokens", "held_instances", "held_tokens",
    )  # fmt: skip
    columns = np.array(rows, dtype=np.int64).reshape(-1, len(names)).T
    return arrow.table({name: arrow.ints(column) for name, column in zip(names, columns, strict=True)})
