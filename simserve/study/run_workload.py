"""The requests of a measured run as a workload: due times, lengths, and which prompts are equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from simserve.errors import TraceError
from simserve.metrics.columns import Ints
from simserve.study.measured import Measured
from simserve.units import NS_PER_S
from simserve.workload.client import Client
from simserve.workload.json_rows import read_jsonl
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Prompts, Workload

PREFIX_BLOCK_TOKENS = 16


def build_workload(measured: Measured, path: Path, prefixes: Path | None, client: Client) -> Workload:
    """Return the requests of a run, sent at their due times.

    Outputs end at their length, as those of the load generators with `ignore_eos` do.

    Args:
        measured: Its rows, in order of due time.
        path: Their file, for names and errors.
        prefixes: File of block hashes, a row a request in the order of `path`; None: prompts with equal ids
            are equal up to the shorter one's end, and others have nothing in common.
        client: Limits of the load generator.

    Raises:
        TraceError: If the prefix file does not belong to the rows.
    """
    rows = TraceRows(path)
    times = np.rint(measured.latencies.due_s * NS_PER_S).astype(np.int64)
    lengths = zip(
        times.tolist(),
        measured.prompt_tokens.tolist(),
        measured.latencies.output_tokens.tolist(),
        strict=True,
    )
    for arrival_ns, prompt, output in lengths:
        rows.add(arrival_ns, prompt, output)
    if prefixes is not None:
        rows.set_blocks(_read_hashes(prefixes, measured), PREFIX_BLOCK_TOKENS, outputs=True)
        load = rows.workload("a measured run, prompts from 16-token block hashes")
    else:
        load = _with_equal_prompts(rows.workload("a measured run"), measured.prompt_id)
    return replace(load, client=client)


def _with_equal_prompts(load: Workload, prompt_id: Ints) -> Workload:
    """Return the same with prompts of one id as pieces of one stream; those without an id stay distinct."""
    if np.all(prompt_id < 0):
        return load
    _, code, uses = np.unique(prompt_id, return_inverse=True, return_counts=True)
    own = prompt_id < 0
    # Streams from 0 on are the outputs, one a row; a prompt of its own has no segments.
    first = load.count
    counts = np.where(own, 0, 1)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    picked = np.flatnonzero(~own)
    prompts = Prompts(
        offsets,
        stream=first + code[picked],
        start=np.zeros(len(picked), dtype=np.int64),
        length=load.prompt_tokens[picked],
    )
    shared = np.where(~own & (uses[code] > 1), load.prompt_tokens, 0)
    return replace(load, prompts=prompts, shared_tokens=shared)


def _read_hashes(path: Path, measured: Measured) -> list[list[int]]:
    """Return the block hashes of each request, in the order of `measured`."""
    if not path.is_file():
        raise TraceError("no such file; run.yaml names it as prefix_file", file=str(path))
    records = list(read_jsonl(path))
    if len(records) != len(measured):
        raise TraceError(
            f"has {len(records)} rows; expected one for each of {len(measured)} requests", file=str(path)
        )
    found = []
    for row, prompt in zip(measured.row.tolist(), measured.prompt_tokens.tolist(), strict=True):
        record = records[row]
        if record.tokens("input_length") != prompt:
            record.fail("input_length", f"expected {prompt}, the prompt_tokens of request {row}")
        found.append(record.integers("hash_ids"))
    return found
