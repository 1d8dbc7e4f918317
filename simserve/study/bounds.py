"""What can be said of a candidate without simulating it: bounds, never estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simserve.cost.timer import Chunk
from simserve.scenario.engine_plan import EnginePlan
from simserve.study.candidates import Candidate
from simserve.study.slo_terms import SloTerm
from simserve.study.steadiness import GROWING_SHARE
from simserve.workload.workload import Workload

# Percentile of a latency that a summary's key names.
_PERCENTILES = {"median": 50, "p90": 90, "p95": 95, "p99": 99}
# Batch sizes at which a decode step is priced for the best throughput that there could be.
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Requests that stand for the workload in these bounds.
_SAMPLES = 200


def broken_terms(candidate: Candidate, workload: Workload, slo: Sequence[SloTerm]) -> list[SloTerm]:
    """Return the terms that no number of instances can keep: the work of a single request alone breaks them.

    A first token comes no sooner than the prompt's own computation (of its last token, where a prefix may be
    cached), and each further one no sooner than a step of this request alone. With several pools a term is
    broken if it is in each.
    """
    rows = _sample(len(workload.prompt_tokens))
    prompts = np.maximum(workload.prompt_tokens[rows], 1)
    cached = workload.shared_tokens is not None
    least = [_least_latencies(plan, prompts.tolist(), cached) for plan in candidate.plans]
    return [term for term in slo if all(_is_broken(term, each) for each in least)]


def most_rate(candidate: Candidate, workload: Workload) -> float:
    """Return the highest rate that one instance could serve, in the best of batches, in requests a second.

    Prompts in full budgets, or decodes in the batch that is best for them, whichever takes longer; batching,
    queues and latencies only add to it. Infinite where several pools share the work.
    """
    if len(candidate.plans) > 1:
        return float("inf")
    plan = candidate.plans[0]
    timer = plan.timers[0]
    prompt = max(1, int(workload.prompt_tokens.mean()))
    output = max(1, int(workload.output_tokens.mean()))
    context = prompt + output // 2
    seats = plan.config.max_num_seqs or max(_BATCHES)
    room = max(1, plan.memory.kv_tokens // context)
    sizes = [size for size in _BATCHES if size <= min(seats, room)] or [1]
    a_step_ns = min(timer.decode_ns(size, size * context, 0, 1)[0] / size for size in sizes)
    prompt_ns = 0.0
    if workload.shared_tokens is None:
        # As many whole prompts as fit a step share its weights.
        budget = plan.pool_info("", (0,)).max_num_batched_tokens or prompt * seats
        together = max(1, budget // prompt)
        prompt_ns = timer.batch_ns(0, 0, 0, [Chunk(prompt, 0)] * together, together) / together
    busy_s = max(a_step_ns / _tokens_a_step(plan) * (output - 1), prompt_ns) / 1e9
    ranks = plan.engine.data_parallel_size
    # A probe lets a queue grow by this share.
    return ranks / ((1 - GROWING_SHARE) * busy_s) if busy_s else float("inf")


def least_level(candidate: Candidate, workload: Workload, rate_per_s: float) -> int:
    """Return how many instances are needed at the very least: see `most_rate`."""
    return max(1, int(np.ceil(rate_per_s / most_rate(candidate, workload))))


def _least_latencies(plan: EnginePlan, prompts: Sequence[int], cached: bool) -> dict[str, Any]:
    budget = plan.config.max_num_batched_tokens or 1 << 30
    first, step = [], []
    for tokens in prompts:
        chunk = Chunk(1 if cached else min(tokens, budget), 0)
        first.append(sum(timer.batch_ns(0, 0, 0, [chunk], 1) for timer in plan.timers) / 1e6)
        step_ns = sum(timer.decode_ns(1, tokens, 0, 1)[0] for timer in plan.timers)
        step.append(step_ns / _tokens_a_step(plan) / 1e6)
    return {"ttft": np.array(first), "tpot": np.array(step)}


def _tokens_a_step(plan: EnginePlan) -> int:
    """Return how many tokens a sequence can get in a step: drafts may all be accepted."""
    speculative = plan.config.speculative
    return 1 if speculative is None else 1 + speculative.num_speculative_tokens


def _is_broken(term: SloTerm, least: Mapping[str, Any]) -> bool:
    statistic, _, metric = term.key.removesuffix("_ms").partition("_")
    if metric not in least:
        return False
    values = least[metric]
    percentile = _PERCENTILES.get(statistic)
    floor = values.mean() if percentile is None else np.percentile(values, percentile, method="lower")
    return bool(floor > term.bound)


def _sample(count: int) -> Any:
    return np.unique(np.linspace(0, count - 1, min(count, _SAMPLES)).astype(np.int64))
