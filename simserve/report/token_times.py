"""When each request's tokens came, from a run's folder: its spans and the ends of its instance's steps."""

from __future__ import annotations

import numpy as np

from simserve.report.run_folder import Floats, Ints, RunFolder


def token_gaps(run: RunFolder) -> list[Floats]:
    """Return the gaps between consecutive chunks of each request's stream in seconds, in the table's order.

    A chunk is what one step gave: with speculation several tokens. A span says how many tokens came within
    which steps: one a step, or with a pipeline fewer, which are then taken to be evenly spread.
    """
    requests, spans = run.requests, run.spans
    place = {int(key): row for row, key in enumerate(requests["request_id"])}
    moments: list[list[Floats]] = [[] for _ in place]
    missing = np.maximum(requests["output_tokens"], 0).astype(np.int64)
    for index in np.flatnonzero((spans["kind"] == "decode") & (spans["tokens"] > 0)).tolist():
        row = place[int(spans["request_id"][index])]
        ends = run.step_ends[int(requests["instance"][row])]
        first, last = int(spans["first_step"][index]), int(spans["last_step"][index])
        tokens = int(spans["tokens"][index])
        missing[row] -= tokens
        moments[row].append(ends[_token_steps(first, last, tokens)])
    # The others were sampled by the last chunk of a prompt, the first or one computed again.
    for index in np.flatnonzero(spans["kind"] == "prefill").tolist():
        row = place[int(spans["request_id"][index])]
        end_s = run.step_ends[int(requests["instance"][row])][int(spans["last_step"][index])]
        if missing[row] > 0 and end_s >= requests["first_token_s"][row]:
            moments[row].append(np.array([end_s]))
            missing[row] -= 1
    return [np.diff(np.unique(np.concatenate(parts))) if parts else np.empty(0) for parts in moments]


def _token_steps(first: int, last: int, tokens: int) -> Ints:
    """Return the steps of a span that gave tokens."""
    steps = last - first + 1
    if tokens >= steps:
        return np.arange(first, last + 1, dtype=np.int64)
    return last - (np.arange(tokens, dtype=np.int64)[::-1] * steps) // tokens
