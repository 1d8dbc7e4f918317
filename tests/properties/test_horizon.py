"""Jumping over stretches gives what stepping through them gives: bit for bit, on random scenarios."""

from __future__ import annotations

import pytest
from random_scenarios import build_scenario, check

SCENARIOS = 300
GROUP = 20


@pytest.mark.parametrize("first", range(0, SCENARIOS, GROUP))
def test_jumping_equals_stepping(first: int) -> None:
    for seed in range(first, first + GROUP):
        check(build_scenario(seed))
