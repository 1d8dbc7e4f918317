"""A small log worked out by hand: two prompts, block size 4, prefix caching, no measured data needed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Request 0: 5 prompt tokens in blocks 1 and 2, 2 outputs. Request 1 comes one iteration later with the
# same first 4 tokens: block 1 is a hit, its 2 other tokens go to block 3; one output.
HAND_MADE: dict[str, Any] = {
    "format": "simserve-vllm-golden/1",
    "vllm_version": "0.19.0",
    "name": "hand_made",
    "about": "worked out by hand",
    "config": {
        "num_gpu_blocks": 6,
        "block_size": 4,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "max_model_len": 32,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "policy": "fcfs",
        "long_prefill_token_threshold": 0,
        "scheduler_reserve_full_isl": True,
        "async_scheduling": False,
        "pipeline_parallel_size": 1,
        "spec": None,
        "kv_groups": [{"type": "full"}],
    },
    "requests": [
        {"id": 0, "arrival": 0, "prompt": [[7, 0, 5]], "max_tokens": 2},
        {"id": 1, "arrival": 1, "prompt": [[7, 0, 4], [8, 0, 2]], "max_tokens": 1},
    ],
    "completed": True,
    "iterations": 3,
    "steps": [
        {
            "i": 0, "add": [0], "s": [[0, 5, 0]], "new": [0], "blk": {"0": [1, 2]},
            "free": 3, "nr": 1, "nw": 0, "nc": 1, "cpb": 2, "run": [0], "wait": [],
            "u": {"of": 0, "tok": 1, "free": 3, "nr": 1, "nw": 0},
        },
        {
            "i": 1, "add": [1], "s": [[0, 1, 5], [1, 2, 4]], "new": [1], "blk": {"1": [1, 3]},
            "free": 2, "nr": 2, "nw": 0, "nc": 1, "cpb": 1, "run": [0, 1], "wait": [],
            "u": {"of": 1, "tok": 2, "fin": [0, 1], "free": 5, "nr": 0, "nw": 0},
        },
        {
            "i": 2, "s": [], "free": 5, "nr": 0, "nw": 0, "nc": 1, "cpb": 0, "run": [], "wait": [],
            "u": {"of": 2, "tok": 0, "free": 5, "nr": 0, "nw": 0},
        },
    ],
    "results": [
        {
            "id": 0, "arrival": 0, "first_sched": 0, "first_token": 0, "finish": 1, "n_out": 2,
            "preemptions": 0, "cached_tokens": 0, "reason": "length",
        },
        {
            "id": 1, "arrival": 1, "first_sched": 1, "first_token": 1, "finish": 1, "n_out": 1,
            "preemptions": 0, "cached_tokens": 4, "reason": "length",
        },
    ],
    # Blocks 4 and 5 were never taken; request 0 frees 2 (1 is shared still), then request 1 frees 3 and 1.
    "final_free_queue": [4, 5, 2, 3, 1],
}  # fmt: skip


@pytest.fixture
def document() -> dict[str, Any]:
    """A fresh copy of the hand-made log, to be changed by the test."""
    return copy.deepcopy(HAND_MADE)


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[..., Path]:
    """Write a document as `NAME.json` into the test's folder."""

    def write(document: Any, name: str = "log") -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        return path

    return write
