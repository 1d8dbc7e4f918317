"""Predictors err as they say, and a request is always guessed the same."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from scipy.stats import kendalltau

from simserve.errors import InputError
from simserve.registry import lookup
from simserve.scheduler.orders.predictors import Predictor
from simserve.workload.request import Request

OPTIONS: dict[str, dict[str, Any]] = {
    "oracle": {},
    "noisy": {"sigma": 0.7},
    "bucketed": {"bucket_tokens": 50, "accuracy": 0.8},
    "ranked": {"kendall_tau": 0.6},
}


def build(kind: str, seed: int = 1, **options: Any) -> Predictor:
    predictor: Predictor = lookup("predictor", kind)(seed, **(OPTIONS.get(kind, {}) | options))
    return predictor


def request(request_id: int, outputs: int) -> Request:
    return Request(request_id, 0, (), 10, outputs, outputs, request_id)


def log_normal_requests(count: int, sigma: float) -> list[Request]:
    rng = random.Random(2)
    return [request(number, max(1, round(rng.lognormvariate(6.0, sigma)))) for number in range(count)]


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_guess_depends_on_seed_and_request_alone(kind: str) -> None:
    asked = [request(number, 100 + number) for number in range(30)]
    first = build(kind)
    guesses = {each.id: first.predict(each) for each in asked}
    again = build(kind)
    assert {each.id: again.predict(each) for each in reversed(asked)} == guesses
    if kind != "oracle":
        other = build(kind, seed=2)
        assert {each.id: other.predict(each) for each in asked} != guesses


def test_an_oracle_knows() -> None:
    assert [build("oracle").predict(request(0, outputs)) for outputs in (1, 77)] == [1, 77]


def test_the_error_of_a_noisy_guess_is_log_normal() -> None:
    asked = log_normal_requests(4000, 0.9)
    predictor = build("noisy", sigma=0.7)
    errors = [math.log(predictor.predict(each) / each.output_tokens) for each in asked]
    mean = sum(errors) / len(errors)
    deviation = math.sqrt(sum((error - mean) ** 2 for error in errors) / len(errors))
    # Four standard errors of a mean and of a deviation over 4,000 draws.
    assert abs(mean) < 4 * 0.7 / math.sqrt(4000)
    assert abs(deviation - 0.7) < 4 * 0.7 / math.sqrt(8000)


def test_a_bucketed_guess_is_the_upper_end_of_a_bucket() -> None:
    exact = build("bucketed", accuracy=1.0)
    assert [exact.predict(request(0, outputs)) for outputs in (1, 50, 51, 100, 101)] == [
        50,
        50,
        100,
        100,
        150,
    ]


def test_a_classifier_is_right_as_often_as_it_says_and_else_off_by_one() -> None:
    asked = log_normal_requests(4000, 0.9)
    guessing, exact = build("bucketed", accuracy=0.8), build("bucketed", accuracy=1.0)
    misses = [(guessing.predict(each) - exact.predict(each)) / 50 for each in asked]
    assert {*misses} == {-1, 0, 1}
    assert misses.count(0) / 4000 == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 4000))
    assert all(guessing.predict(each) >= 50 for each in asked)


@pytest.mark.parametrize("tau", [0.2, 0.5, 0.8, 1.0])
def test_a_ranking_has_the_stated_kendall_tau(tau: float) -> None:
    asked = log_normal_requests(3000, 0.9)
    predictor = build("ranked", kendall_tau=tau)
    found = kendalltau([each.output_tokens for each in asked], [predictor.predict(each) for each in asked])
    # The standard error of tau over 3,000 pairs of ranks is at most 2 / 3 / sqrt(3,000) = 0.012.
    assert found.statistic == pytest.approx(tau, abs=0.04)
    assert not predictor.is_length


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("noisy", {"sigma": None}, "needs the option sigma"),
        ("noisy", {"sgima": 0.5}, "did you mean 'sigma'"),
        ("ranked", {"kendall_tau": 0.0}, "above 0"),
        ("oracel", {}, "did you mean 'oracle'"),
    ],
)
def test_wrong_options_are_refused(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(kind, **options)
