"""Jumping over stretches gives what stepping through them gives: bit for bit, on random scenarios."""

from __future__ import annotations

import pytest
from random_scenarios import build_scenario, check

from tests.properties.seeds import seed_groups

SCENARIOS = 300
GROUP = 20


@pytest.mark.parametrize("first", seed_groups(SCENARIOS, GROUP, fast=20))
def test_jumping_equals_stepping(first: int) -> None:
    for seed in range(first, first + GROUP):
        check(build_scenario(seed))
