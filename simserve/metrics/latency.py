"""TTFT, TPOT, ITL and E2EL of a run, defined as in `vllm bench serve` (vllm/benchmarks/serve.py, 0.19).

- TTFT: first token minus the moment the client sent the request.
- E2EL: last token minus that moment.
- TPOT: (E2EL - TTFT) / (output tokens - 1); requests of one token have none.
- ITL: the gap between consecutive chunks of the stream. A chunk is what one step gave (with speculative
  decoding several tokens), so tokens of the same step have no gap between them.

Only completed requests count in the statistics.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import numpy as np

from simserve.metrics.columns import Floats, Ints, Mask, RequestColumns


def ttft_ns(columns: RequestColumns) -> Ints:
    """Return `[n]` times to first token in ns; meaningless where `first_token_step` is -1."""
    return columns.first_token_ns() - columns.arrival_ns


def e2el_ns(columns: RequestColumns) -> Ints:
    """Return `[n]` end-to-end latencies in ns; meaningless where the request did not complete."""
    return columns.end_ns - columns.arrival_ns


def tpot_ns(columns: RequestColumns, ttft: Ints, e2el: Ints) -> Floats:
    """Return `[n]` times per output token in ns, 0 where at most one token was generated."""
    gaps = columns.output_tokens - 1
    return np.where(gaps > 0, (e2el - ttft) / np.maximum(gaps, 1), 0.0)


def inter_token_gaps(
    columns: RequestColumns, token_steps: Mapping[int, array[int]], chosen: Mask
) -> tuple[Ints, Ints]:
    """Return the gaps between consecutive tokens of the chosen requests, as values and how often each occurs.

    A request that got a token in each of its steps adds the same gaps as every other request of those
    steps, so a step's gap is counted once for each of them, from where they begin and end: the cost
    follows the steps, not the tokens. Requests in `token_steps` are walked token by token.

    Args:
        columns: The run's requests and steps.
        token_steps: By request id, the step of every token, where they are not consecutive.
        chosen: `[n]`, the requests to count; all of them completed.

    Returns:
        `(gap_ns, count)`, of one length; a count may be 0.
    """
    steps = columns.steps
    irregular = (
        [row for row, key in enumerate(columns.request_id.tolist()) if key in token_steps]
        if token_steps
        else []
    )
    regular = chosen.copy()
    regular[irregular] = False
    rows = np.flatnonzero(regular)
    begins = steps.index(columns.instance[rows], columns.first_token_step[rows]) + 1
    ends = steps.index(columns.instance[rows], columns.finish_step[rows]) + 1
    size = len(steps.end_ns) + 1
    change = np.bincount(begins, minlength=size)
    change -= np.bincount(ends, minlength=size)
    # Position p holds the requests that got a token in both p - 1 and p: none where p begins an instance, so
    # the difference of two instances' clocks there (which may be negative) does not count.
    count = np.cumsum(change)[1:-1]
    gaps = np.maximum(np.diff(steps.end_ns), 0)
    walked = [row for row in irregular if chosen[row]]
    if not walked:
        return gaps, count
    singles = _walk(columns, token_steps, walked)
    return np.concatenate((gaps, singles)), np.concatenate((count, np.ones(len(singles), dtype=np.int64)))


def _walk(columns: RequestColumns, token_steps: Mapping[int, array[int]], rows: list[int]) -> Ints:
    """Return the gaps of the requests in `rows`, token by token."""
    tokens = [token_steps[key] for key in columns.request_id[rows].tolist()]
    lengths = np.array([len(steps) for steps in tokens], dtype=np.int64)
    # One join of buffers: several times as fast as an array object for each request.
    flat = np.frombuffer(b"".join(memoryview(steps).cast("B") for steps in tokens), dtype=np.int64)
    owner = np.repeat(np.arange(len(rows)), lengths)
    at = np.repeat(columns.steps.offset[columns.instance[rows]], lengths) + flat
    same = (owner[1:] == owner[:-1]) & (at[1:] != at[:-1])
    ends = columns.steps.end_ns[at]
    gaps: Ints = (ends[1:] - ends[:-1])[same]
    return gaps
