"""The configurations that `recommend` chooses from, and what can be said of one without simulating it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from simserve.cost.timer import Chunk
from simserve.errors import SimserveError
from simserve.scenario.catalog import load_hardware
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.engine_plan import EnginePlan
from simserve.scenario.loader import load_scenario
from simserve.scenario.schema import Scenario
from simserve.study.points import write_value
from simserve.study.slo_terms import SloTerm
from simserve.workload.workload import Workload

_POOL = "pools.0"
# Percentile of a latency that a summary's key names.
_PERCENTILES = {"median": 50, "p90": 90, "p95": 95, "p99": 99}
# Batch sizes at which a decode step is priced for the best throughput that there could be.
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Requests that stand for the workload in these bounds.
_SAMPLES = 200


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration of the first pool, but for its number of replicas.

    Attributes:
        settings: Keys of the scenario and their values.
        scenario: With them.
        plan: What an instance is made of.
        price_usd_per_hour: Of one accelerator; None if unknown.
    """

    settings: Mapping[str, Any]
    scenario: Scenario
    plan: EnginePlan
    price_usd_per_hour: float | None

    @property
    def gpus(self) -> int:
        """Accelerators of one instance."""
        return self.plan.pool_info("", (0,)).accelerators * self.plan.engine.data_parallel_size

    def with_replicas(self, replicas: int) -> Scenario:
        """Return the scenario with so many instances."""
        pool = self.scenario.pools[0].model_copy(update={"replicas": replicas})
        return self.scenario.model_copy(update={"pools": (pool, *self.scenario.pools[1:])})


@dataclass(frozen=True, slots=True)
class Unfit:
    """A configuration that cannot be: its settings, and why."""

    settings: Mapping[str, Any]
    reason: str


def build_candidates(
    base: str,
    overrides: Sequence[str],
    axes: Mapping[str, Sequence[Any]],
    prices: Mapping[str, float],
) -> Iterator[Candidate | Unfit]:
    """Yield every combination of the axes' values, in their order.

    Args:
        base: The scenario.
        overrides: Of all candidates.
        axes: Keys below the pool (`hardware`, `engine.tensor_parallel_size`), each with its values.
        prices: USD an hour by accelerator, before those of the catalog.
    """
    for values in product(*axes.values()):
        settings = {f"{_POOL}.{key}": value for key, value in zip(axes, values, strict=True)}
        changes = [*overrides, *(f"{key}={write_value(value)}" for key, value in settings.items())]
        try:
            scenario = load_scenario(base, changes)
            plan = plan_engine(scenario, 0)
        except SimserveError as error:
            yield Unfit(settings, str(error).splitlines()[0])
            continue
        name = scenario.pools[0].hardware
        price = prices.get(name, load_hardware(name, scenario.folder).price_usd_per_hour)
        yield Candidate(settings, scenario, plan, price)


def broken_terms(candidate: Candidate, workload: Workload, slo: Sequence[SloTerm]) -> list[SloTerm]:
    """Return the terms that no number of instances can keep: the work of a single request alone breaks them.

    A first token comes no sooner than the prompt's own computation (of its last token, where a prefix may be
    cached), and each further one no sooner than a step of this request alone.
    """
    timer = candidate.plan.timers[0]
    stages = len(candidate.plan.timers)
    rows = _sample(len(workload.prompt_tokens))
    prompts = np.maximum(workload.prompt_tokens[rows], 1)
    cached = workload.shared_tokens is not None
    budget = candidate.plan.config.max_num_batched_tokens or 1 << 30
    first, step = [], []
    for tokens in prompts.tolist():
        chunk = Chunk(1 if cached else min(tokens, budget), 0)
        first.append(timer.batch_ns(0, 0, 0, [chunk], 1) * stages / 1e6)
        step.append(timer.decode_ns(1, tokens, 0, 1)[0] * stages / 1e6)
    least = {"ttft": np.array(first), "tpot": np.array(step)}
    return [term for term in slo if _is_broken(term, least)]


def least_instances(candidate: Candidate, workload: Workload, rate_per_s: float) -> int:
    """Return how many instances are needed at the very least: their work in the best of batches.

    A bound, not an estimate: prompts in full budgets, or decodes in the batch that is best for them,
    whichever takes longer; batching, queues and latencies only add to it.
    """
    plan = candidate.plan
    timer = plan.timers[0]
    prompt = max(1, int(workload.prompt_tokens.mean()))
    output = max(1, int(workload.output_tokens.mean()))
    context = prompt + output // 2
    seats = plan.config.max_num_seqs or max(_BATCHES)
    room = max(1, plan.memory.kv_tokens // context)
    sizes = [size for size in _BATCHES if size <= min(seats, room)] or [1]
    a_token_ns = min(timer.decode_ns(size, size * context, 0, 1)[0] / size for size in sizes)
    prompt_ns = 0.0
    if workload.shared_tokens is None:
        # As many whole prompts as fit a step share its weights.
        together = max(1, (plan.config.max_num_batched_tokens or prompt) // prompt)
        prompt_ns = timer.batch_ns(0, 0, 0, [Chunk(prompt, 0)] * together, together) / together
    busy_s = max(a_token_ns * (output - 1), prompt_ns) / 1e9
    return max(1, int(np.ceil(rate_per_s * busy_s * 0.999)))


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
