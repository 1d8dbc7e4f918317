"""The `order:` section: what engines get from it, what is refused, what means nothing."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.errors import InputError
from simserve.scenario.order_build import plan_order, unread_keys
from simserve.scenario.order_schema import LengthPredictor, Order
from simserve.scenario.schema import Slo, SloTargets
from simserve.scheduler.orders.deadlines import EarliestDeadlineFirst
from simserve.scheduler.orders.fair_share import VirtualTokenCounter
from simserve.scheduler.orders.order import Targets
from simserve.scheduler.orders.predictors import NoisyPredictor, OraclePredictor
from simserve.scheduler.orders.shortest import ShortestJobFirst


def section(**keys: Any) -> Order:
    return Order.model_validate(keys)


def test_the_default_is_first_come_first_served_with_an_oracle() -> None:
    plan = plan_order(Order(), Slo(), 3)
    assert (plan.policy, plan.options) == ("fcfs", {})
    assert isinstance(plan.settings.predictor, OraclePredictor)


def test_every_engine_builds_an_order_of_its_own() -> None:
    plan = plan_order(section(policy="vtc", output_weight=3.0), Slo(), 3)
    first, second = plan.build(), plan.build()
    assert isinstance(first, VirtualTokenCounter)
    assert first is not second
    assert first.options == {"input_weight": 1, "output_weight": 3.0}


def test_the_predictor_gets_seed_and_options() -> None:
    plan = plan_order(section(policy="sjf", predictor={"kind": "noisy", "sigma": 0.5}), Slo(), 3)
    order = plan.build()
    assert isinstance(order, ShortestJobFirst)
    predictor = order.settings.predictor
    assert isinstance(predictor, NoisyPredictor)
    assert (predictor.seed, predictor.options) == (3, {"sigma": 0.5})


def test_deadlines_are_the_scenarios_targets() -> None:
    slo = Slo(ttft_s=1.5, classes={"batch": SloTargets(e2el_s=60.0)})
    order = plan_order(section(policy="edf"), slo, 3).build()
    assert isinstance(order, EarliestDeadlineFirst)
    assert order.settings.targets == Targets(ttft_ns=1_500_000_000)
    assert order.settings.class_targets == {"batch": Targets(e2el_ns=60_000_000_000)}


def test_what_an_order_or_its_predictor_does_not_read_is_named() -> None:
    given = section(policy="vtc", levels=3, input_weight=1.0, predictor={"kind": "oracle", "sigma": 1.0})
    assert list(unread_keys(given)) == ["levels", "predictor.sigma"]
    assert list(unread_keys(section(policy="mlfq", levels=3, promote_after_s=2.0))) == []
    assert list(unread_keys(Order())) == []


def test_unread_keys_do_no_harm() -> None:
    assert plan_order(section(policy="fcfs", levels=3, token_s=0.1), Slo(), 3).options == {}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"policy": "edff"}, "did you mean 'edf'"),
        ({"policy": "edf"}, "needs targets"),
        ({"policy": "sjf", "predictor": {"kind": "noisy"}}, "needs the option sigma"),
        ({"policy": "sjf", "predictor": {"kind": "nois"}}, "did you mean 'noisy'"),
        ({"policy": "sjf", "options": {"levles": 3}}, "levles"),
        ({"policy": "simserve.scheduler.orders.queue:OrderedQueue"}, "is no order"),
    ],
)
def test_what_cannot_work_is_refused_when_the_scenario_is_read(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_order(section(**keys), Slo(), 3)


def test_the_schema_bounds_what_it_can() -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        LengthPredictor(kendall_tau=1.5)
    with pytest.raises(ValueError, match="Extra inputs"):
        section(polcy="fcfs")
