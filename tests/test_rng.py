"""Draws depend on their keys only, and are uniform."""

from __future__ import annotations

import numpy as np

from simserve.rng import keyed_uniform, stream


def test_equal_keys_give_equal_streams_and_others_do_not() -> None:
    draws = stream(7, "arrivals").random(8)
    assert np.array_equal(draws, stream(7, "arrivals").random(8))
    for other in (stream(8, "arrivals"), stream(7, "lengths"), stream(7, "arrivals", 1)):
        assert not np.array_equal(draws, other.random(8))


def test_more_draws_leave_the_first_ones_as_they_are() -> None:
    assert np.array_equal(
        stream(1, "x").standard_gamma(0.1, 1000)[:10], stream(1, "x").standard_gamma(0.1, 10)
    )


def test_keyed_draws_are_uniform_and_uncorrelated() -> None:
    draws = np.array(
        [[keyed_uniform(3, request, "accept", index) for index in range(50)] for request in range(400)]
    )
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    expected = draws.size / 20
    # Chi-squared with 19 degrees of freedom: 43.8 is its 99.9 % quantile.
    assert ((counts - expected) ** 2 / expected).sum() < 43.8
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.03


def test_keyed_draws_differ_by_every_key() -> None:
    base = keyed_uniform(0, 1, "a", 2)
    others = [
        keyed_uniform(1, 1, "a", 2),
        keyed_uniform(0, 2, "a", 2),
        keyed_uniform(0, 1, "b", 2),
        keyed_uniform(0, 1, "a", 3),
    ]
    assert base == keyed_uniform(0, 1, "a", 2)
    assert len({base, *others}) == 5
