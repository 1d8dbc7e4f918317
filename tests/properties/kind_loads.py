"""Random loads for the engine kinds of the base, and what each schedule of a drive decided."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import Sequence
from simserve.testing.harness import Drive, drive
from simserve.workload.request import Request, Segment

MAX_MODEL_LEN = 96
STEP_NS = 10_000_000
# What differs between the kinds: options to choose from, and whether a step has a token budget.
OPTIONS: dict[str, dict[str, list[Any]]] = {
    "sarathi": {},
    "vllm-v0": {
        "mix_prompts": [False, False, True],
        "preemption_mode": ["recompute", "swap"],
        "swap_space": [40 / 2**30, 400 / 2**30],
    },
    "orca": {"reserve": ["max", "max_tokens", "oracle"]},
    "static": {
        "context_phase": ["longest", "shortest"],
        "run_to": ["longest", "max_tokens"],
        "max_wait_s": [0.0, 0.03, 0.2],
    },
    "dynamic": {"preferred_batch_size": [None, 1, (1, 2)], "max_queue_delay_s": [0.0, 0.03]},
    "tensorrt-llm": {
        "capacity_scheduler_policy": ["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "MAX_UTILIZATION"],
        "context_chunking_policy": ["FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS"],
    },
    "lightllm": {
        "length_estimate": ["history", "ema", "max_tokens"],
        "router_max_wait_tokens": [1, 4, 7],
        "router_max_new_token_len": [2, 20],
        "router_token_ratio": [0.5, 2.0],
    },
    "fastserve": {
        "base_quantum_s": [0.02, 0.05],
        "starvation_threshold_s": [0.1, 3.0],
        "starvation_period_steps": [7, 1000],
        "proactive_offloading": [True, True, False],
        "swap_space": [40 / 2**30, 400 / 2**30],
    },
}
CHUNKED = ("sarathi",)
CACHING = ("sarathi", "vllm-v0", "tensorrt-llm", "lightllm")


@dataclass(frozen=True)
class KindLoad:
    """What a kind is driven with."""

    config: SchedulerConfig
    options: dict[str, Any]
    arrivals: dict[int, list[Request]]
    aborts: dict[int, list[int]]


@dataclass
class Decision:
    """What one schedule() decided: ids, in the scheduler's order.

    Attributes:
        ran: Tokens of each request that ran; None if nothing did.
        admitted: Those that got their first seat.
        head_known: Known tokens of the head of the queue, 0 if nobody waits.
        promised: Blocks that those with a seat may still take, up to their max_tokens.
        decoding: Those with a seat that are past their prompt, or end it in this step.
        unstarted, parked, hosted: Of the waiting those that hold no KV entry, that keep their blocks, that
            have them in host memory.
        host_is_tight: Whether less than a tenth of the host's memory is free.
        steps: Steps scheduled so far.
    """

    iteration: int
    ran: dict[int, int] | None
    running: list[int]
    waiting: list[int]
    preempted: list[int]
    admitted: list[int]
    head: Sequence | None
    free: int
    tokens: int
    head_known: int
    promised: int
    decoding: list[int]
    unstarted: list[int]
    parked: list[int]
    hosted: list[int]
    host_is_tight: bool
    steps: int


@dataclass
class Journal:
    """One drive of a kind."""

    load: KindLoad
    scheduler: Any
    result: Drive = field(default_factory=Drive)
    decisions: list[Decision] = field(default_factory=list)
    sequences: dict[int, Sequence] = field(default_factory=dict)


def build_load(kind: str, seed: int) -> KindLoad:
    """Return 4 to 20 requests in a pool that is often too small for all of them."""
    draw = random.Random(f"{kind} {seed}")
    block_size = draw.choice([1, 4, 8, 16])
    needed = -(-MAX_MODEL_LEN // block_size)
    # A watermark and a spare block must leave room for the longest request.
    blocks = needed + 3 + needed // 50 + draw.choice([0, 2, needed // 2, needed, 3 * needed])
    seats = draw.choice([1, 3, 4, 8])
    is_chunked = kind in CHUNKED or (kind == "tensorrt-llm" and draw.random() < 0.7)
    config = SchedulerConfig(
        num_gpu_blocks=blocks,
        block_size=block_size,
        max_num_seqs=seats,
        max_num_batched_tokens=max(
            draw.choice([8, 17, 40, 128]) if is_chunked else MAX_MODEL_LEN,
            block_size if kind == "tensorrt-llm" else 0,
        ),
        max_model_len=MAX_MODEL_LEN,
        enable_prefix_caching=kind in CACHING and draw.random() < 0.5,
        enable_chunked_prefill=is_chunked,
        pipeline_parallel_size=draw.choice([1, 1, 1, 2, 3]),
        block_bytes=1,
        prefill_profile=((1, 0.001), (MAX_MODEL_LEN, 0.001 * MAX_MODEL_LEN)),
    )
    options = {name: draw.choice(values) for name, values in OPTIONS[kind].items()}
    if kind == "dynamic" and options["preferred_batch_size"] == (1, 2) and seats == 1:
        options["preferred_batch_size"] = 1
    arrivals: dict[int, list[Request]] = {}
    for number in range(draw.randint(4, 20)):
        arrivals.setdefault(draw.randint(0, 12), []).append(_build_request(draw, number))
    for requests in arrivals.values():
        draw.shuffle(requests)
    aborts: dict[int, list[int]] = {}
    for _ in range(draw.choice([0, 0, 2])):
        aborts.setdefault(draw.randint(0, 40), []).append(draw.randint(0, 9))
    return KindLoad(config, options, arrivals, aborts)


def _build_request(draw: random.Random, number: int) -> Request:
    shared = draw.choice([0, 0, 20])
    prompt = [Segment(1 + draw.randint(0, 1), 0, shared)] if shared else []
    prompt.append(Segment(100 + number, 0, draw.randint(1, 40)))
    outputs = draw.randint(1, 35)
    tokens = sum(segment.length for segment in prompt)
    ending = draw.choice([outputs, draw.randint(1, outputs)])
    return Request(
        id=number,
        arrival_ns=0,
        prompt=tuple(prompt),
        prompt_tokens=tokens,
        output_tokens=ending,
        max_tokens=outputs,
        output_stream=1000 + number,
        shared_tokens=shared,
    )


def drive_kind(policy: type, load: KindLoad, stretch: Callable[[int], int] | None = None) -> Journal:
    """Run a load to its end; the harness checks budget, seats, blocks and places after every call."""
    scheduler = policy(load.config, **load.options)
    journal = Journal(load, scheduler)

    add = scheduler.add

    def add_noted(*arguments: Any) -> Sequence:
        sequence: Sequence = add(*arguments)
        journal.sequences[sequence.id] = sequence
        return sequence

    def note(iteration: int, batch: Batch | None) -> None:
        journal.decisions.append(_decision(iteration, batch, scheduler))

    scheduler.add = add_noted
    journal.result = drive(
        scheduler,
        load.config,
        {at: list(requests) for at, requests in load.arrivals.items()},
        aborts=load.aborts,
        max_iterations=5_000,
        observer=note,
        stretch=stretch,
        step_ns=STEP_NS,
    )
    return journal


def _decision(iteration: int, batch: Batch | None, scheduler: Any) -> Decision:
    ran = None
    admitted: list[int] = []
    if batch is not None:
        ran = {sequence.id: 1 for sequence in batch.decoders}
        ran |= {entry.sequence.id: entry.tokens for entry in batch.entries}
        admitted = [entry.sequence.id for entry in batch.entries if entry.sequence.first_step == batch.step]
    return Decision(
        iteration,
        ran,
        [sequence.id for sequence in scheduler.running],
        [sequence.id for sequence in scheduler.waiting],
        [sequence.id for sequence in scheduler.preempted],
        admitted,
        scheduler.waiting.head() if len(scheduler.waiting) else None,
        scheduler.pool.num_free,
        0 if batch is None else batch.decodes + batch.prefill_tokens,
        scheduler.waiting.head().known if len(scheduler.waiting) else 0,
        sum(_count_promised(scheduler, sequence) for sequence in scheduler.running),
        [sequence.id for sequence in scheduler.running if sequence.decoding],
        [sequence.id for sequence in scheduler.waiting if not sequence.computed],
        [sequence.id for sequence in scheduler.list_parked()],
        [sequence.id for sequence in getattr(scheduler, "list_swapped", list)()],
        10 * getattr(scheduler, "host_free", 1) < getattr(scheduler, "host_blocks", 0),
        scheduler.steps,
    )


def _count_promised(scheduler: Any, sequence: Sequence) -> int:
    size, request = scheduler.cache.block_size, sequence.request
    tokens = min(request.prompt_tokens + request.max_tokens, scheduler.config.max_model_len)
    return max(0, -(-tokens // size) - scheduler.cache.capacity_tokens(sequence) // size)
