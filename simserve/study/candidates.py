"""The configurations that `recommend` chooses from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from simserve.errors import InputError, SimserveError
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.engine_plan import EnginePlan
from simserve.scenario.loader import load_scenario
from simserve.scenario.schema import Scenario
from simserve.study.points import resolved_settings, write_value
from simserve.study.prices import price_of

_POOL = "pools.0"
# A space of more is a mistake.
_MOST_CANDIDATES = 10_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration, but for how many instances its pools have.

    Attributes:
        settings: Keys of the scenario and their values.
        scenario: With them.
        plans: What an instance of each pool is made of.
        prices_usd_per_hour: Of one accelerator of each pool; None if unknown.
    """

    settings: Mapping[str, Any]
    scenario: Scenario
    plans: tuple[EnginePlan, ...]
    prices_usd_per_hour: tuple[float | None, ...]

    def accelerators(self, pool: int) -> int:
        """Accelerators of one instance of a pool."""
        plan = self.plans[pool]
        return plan.pool_info("", (0,)).accelerators * plan.engine.data_parallel_size

    def gpus(self, sizes: Sequence[int]) -> int:
        """Accelerators of all, with so many instances of each pool."""
        return sum(size * self.accelerators(pool) for pool, size in enumerate(sizes))

    def usd_per_hour(self, sizes: Sequence[int]) -> float | None:
        """Price of all, with so many instances of each pool; None if one is unknown."""
        total = 0.0
        for pool, (size, price) in enumerate(zip(sizes, self.prices_usd_per_hour, strict=True)):
            if price is None:
                return None
            total += size * self.accelerators(pool) * price
        return total

    def sizes_at(self, level: int) -> tuple[int, ...]:
        """Instances of each pool if the biggest has `level`, in the proportions of the scenario."""
        given = [pool.replicas for pool in self.scenario.pools]
        return tuple(-(-level * each // max(given)) for each in given)

    def with_sizes(self, sizes: Sequence[int], seed: int | None = None) -> Scenario:
        """Return the scenario with so many instances of each pool, and another seed if one is given."""
        pools = zip(self.scenario.pools, sizes, strict=True)
        changed = tuple(pool.model_copy(update={"replicas": size}) for pool, size in pools)
        seed = self.scenario.seed if seed is None else seed
        return self.scenario.model_copy(update={"pools": changed, "seed": seed})


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
        axes: Keys with their values: of the scenario (`pools.1.hardware`), or below its first pool
            (`hardware`, `engine.tensor_parallel_size`).
        prices: USD an hour by accelerator, before those of the catalog.

    Raises:
        InputError: If there are too many.
    """
    keys = [key if key.startswith("pools.") else f"{_POOL}.{key}" for key in axes]
    total = 1
    for values in axes.values():
        total *= len(values)
    if total > _MOST_CANDIDATES:
        raise InputError(f"{total:,} configurations; expected at most {_MOST_CANDIDATES:,}")
    for position in product(*axes.values()):
        settings = dict(zip(keys, position, strict=True))
        changes = [*overrides, *(f"{key}={write_value(value)}" for key, value in settings.items())]
        try:
            scenario = load_scenario(base, changes)
            plans = tuple(plan_engine(scenario, pool) for pool in range(len(scenario.pools)))
        except SimserveError as error:
            yield Unfit(settings, str(error).splitlines()[0])
            continue
        known = tuple(price_of(pool.hardware, prices, scenario.folder) for pool in scenario.pools)
        yield Candidate(resolved_settings(settings, scenario), scenario, plans, known)
