"""From the `order:` section to what engines build their orders from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simserve.registry import lookup
from simserve.scenario.order_schema import LengthPredictor, Order
from simserve.scenario.schema import Slo, SloTargets
from simserve.scheduler.orders.order import OrderPlan, OrderSettings, Targets
from simserve.scheduler.orders.predictors import Predictor

_NS = 1e9


def plan_order(section: Order, slo: Slo, seed: int) -> OrderPlan:
    """Return the plan of an order, which has been built once to see that it can be.

    Raises:
        InputError: If there is no such order or predictor, or one misses what it needs.
    """
    policy = lookup("order", section.policy)
    settings = OrderSettings(
        seed=seed,
        predictor=_build_predictor(section.predictor, seed),
        targets=_targets(slo),
        class_targets={name: _targets(each) for name, each in slo.classes.items()},
    )
    plan = OrderPlan(section.policy, settings, _read_options(section, policy))
    plan.build()
    return plan


def unread_keys(section: Order) -> Iterator[str]:
    """Yield the keys that were given and mean nothing to the order or its predictor, each with its path.

    Raises:
        InputError: If there is no such order or predictor.
    """
    pairs: tuple[tuple[str, Order | LengthPredictor, Any], ...] = (
        ("", section, lookup("order", section.policy)),
        ("predictor.", section.predictor, lookup("predictor", section.predictor.kind)),
    )
    for path, part, policy in pairs:
        read = policy.option_defaults
        yield from (path + key for key in _given(part) if key not in read)


def _build_predictor(section: LengthPredictor, seed: int) -> Predictor:
    policy = lookup("predictor", section.kind)
    predictor: Predictor = policy(seed, **_read_options(section, policy))
    return predictor


def _read_options(section: Order | LengthPredictor, policy: Any) -> dict[str, Any]:
    """Return the options that a policy reads, and those that were passed to it as they are."""
    given = {key: value for key, value in _given(section).items() if key in policy.option_defaults}
    return given | section.options


def _given(section: Order | LengthPredictor) -> Mapping[str, Any]:
    """Return the flat options of a section that are not null."""
    fields = (
        key for key in type(section).model_fields if key not in ("policy", "kind", "predictor", "options")
    )
    return {key: value for key in fields if (value := getattr(section, key)) is not None}


def _targets(slo: SloTargets) -> Targets:
    limits = (slo.ttft_s, slo.tpot_s, slo.e2el_s)
    return Targets(*(None if limit is None else round(limit * _NS) for limit in limits))
