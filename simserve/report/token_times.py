"""When each request's tokens came, from a run's folder: its spans and the ends of its instance's steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simserve.report.run_folder import Floats, Ints, RunFolder

Bools = npt.NDArray[np.bool_]


def token_gaps(run: RunFolder) -> list[Floats]:
    """Return the gaps between consecutive chunks of each request's stream in seconds, as in the table."""
    return [np.diff(moments) for moments in chunk_times(run)]


def chunk_times(run: RunFolder, but: Bools | None = None) -> list[Floats]:
    """Return when each request got the chunks of its stream in seconds, in the table's order.

    A chunk is what one step gave: with speculation several tokens. A span says how many tokens came within
    which steps: one a step, or with a pipeline fewer, which are then taken to be evenly spread.

    Args:
        run: The folder of a run.
        but: `[requests]`, those left out: they get none. None: nobody.
    """
    requests, spans = run.requests, run.spans
    owners = run.span_rows
    moments: dict[int, list[Floats]] = {}
    missing = np.maximum(requests["output_tokens"], 0).astype(np.int64)
    wanted = np.ones(len(owners), bool) if but is None else ~but[owners]
    for index in np.flatnonzero(wanted & (spans["kind"] == "decode") & (spans["tokens"] > 0)).tolist():
        row = int(owners[index])
        ends = run.step_ends[int(requests["instance"][row])]
        first, last = int(spans["first_step"][index]), int(spans["last_step"][index])
        tokens = int(spans["tokens"][index])
        missing[row] -= tokens
        moments.setdefault(row, []).append(ends[_token_steps(first, last, tokens)])
    # The others were sampled by the last chunk of a prompt, the first or one computed again.
    for index in np.flatnonzero(wanted & (spans["kind"] == "prefill")).tolist():
        row = int(owners[index])
        end_s = run.step_ends[int(requests["instance"][row])][int(spans["last_step"][index])]
        if missing[row] > 0 and end_s >= requests["first_token_s"][row]:
            moments.setdefault(row, []).append(np.array([end_s]))
            missing[row] -= 1
    found = [np.empty(0)] * len(missing)
    for row, parts in moments.items():
        found[row] = np.unique(np.concatenate(parts))
    return found


def gap_counts(run: RunFolder) -> tuple[Floats, Ints, Floats]:
    """Return the gaps between consecutive chunks of all requests: seconds, how many of each, and their ends.

    The same gaps as `token_gaps` finds, in time that grows with the requests and the steps, not the tokens: a
    request that got one chunk in every step of a single span shares its gaps with all others of these steps.
    """
    requests, spans = run.requests, run.spans
    decodes = np.flatnonzero((spans["kind"] == "decode") & (spans["tokens"] > 0))
    first, last, tokens = (spans[name][decodes] for name in ("first_step", "last_step", "tokens"))
    owners = run.span_rows[decodes]
    alone = np.bincount(owners, minlength=len(requests["request_id"]))[owners] == 1
    alone &= (tokens >= last - first + 1) & (requests["output_tokens"][owners] - tokens == 1)
    shared = np.zeros(len(requests["request_id"]), bool)
    values, counts, moments = [np.empty(0)], [np.empty(0, np.int64)], [np.empty(0)]
    for instance, ends in run.step_ends.items():
        here = np.flatnonzero(alone & (requests["instance"][owners] == instance))
        # Back to the first token; one that did not come before is of an engine that does not stream.
        leads = ends[first[here]] - requests["first_token_s"][owners[here]]
        here, leads = here[leads > 0], leads[leads > 0]
        # A gap ends with each other step of the span.
        change = np.bincount(first[here] + 1, minlength=len(ends) + 1)
        change -= np.bincount(last[here] + 1, minlength=len(ends) + 1)
        many = np.cumsum(change)[1 : len(ends)]
        values += [np.diff(ends)[many > 0], leads]
        counts += [many[many > 0], np.ones(len(here), np.int64)]
        moments += [ends[1:][many > 0], ends[first[here]]]
        shared[owners[here]] = True
    others = [each for each in chunk_times(run, but=shared) if len(each) > 1]
    values += [np.diff(each) for each in others]
    moments += [each[1:] for each in others]
    counts.append(np.ones(sum(len(each) - 1 for each in others), np.int64))
    return np.concatenate(values), np.concatenate(counts), np.concatenate(moments)


def step_tokens(run: RunFolder) -> dict[int, Ints]:
    """Return by instance how many tokens each of its steps gave to requests: `[steps]`.

    The first token of a request comes with the step that ends at `first_token_s` (of a static batch all its
    tokens do), those of a decode as `chunk_times` has them, and one with each prompt that was computed again.
    """
    requests, spans, owners = run.requests, run.spans, run.span_rows
    given = {instance: np.zeros(len(ends) + 1, np.int64) for instance, ends in run.step_ends.items()}
    first_token = np.full(len(requests["request_id"]), -1, np.int64)
    for instance, ends in run.step_ends.items():
        rows = (requests["instance"] == instance) & ~np.isnan(requests["first_token_s"])
        first_token[rows] = np.searchsorted(ends, requests["first_token_s"][rows])
        np.add.at(given[instance], first_token[rows], 1)
    decodes = np.flatnonzero((spans["kind"] == "decode") & (spans["tokens"] > 0))
    decoded = np.bincount(owners[decodes], spans["tokens"][decodes], minlength=len(first_token))
    missing = requests["output_tokens"] - decoded - (first_token >= 0)
    first = np.maximum(spans["first_step"], first_token[owners])
    last = np.maximum(spans["last_step"], first)
    for index in decodes.tolist():
        steps = given[int(requests["instance"][owners[index]])]
        begin, end, tokens = int(first[index]), int(last[index]), int(spans["tokens"][index])
        # As many whole tokens as are due by each of its steps.
        due = np.arange(end - begin + 2, dtype=np.int64) * tokens // (end - begin + 1)
        steps[begin : end + 1] += np.diff(due)
    for index in np.flatnonzero((spans["kind"] == "prefill") & (missing[owners] > 0)).tolist():
        row, step = int(owners[index]), int(spans["last_step"][index])
        if missing[row] > 0 and step > first_token[row]:
            given[int(requests["instance"][row])][step] += 1
            missing[row] -= 1
    return {instance: steps[:-1] for instance, steps in given.items()}


def _token_steps(first: int, last: int, tokens: int) -> Ints:
    """Return the steps of a span that gave tokens."""
    steps = last - first + 1
    if tokens >= steps:
        return np.arange(first, last + 1, dtype=np.int64)
    return last - (np.arange(tokens, dtype=np.int64)[::-1] * steps) // tokens
