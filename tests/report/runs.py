"""Runs of shipped scenarios, written and read back."""

from __future__ import annotations

from pathlib import Path

from simserve.report.run_folder import RunFolder
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def made(scenario: str, folder: Path, *overrides: str) -> RunFolder:
    """Run a scenario with overrides and return its folder."""
    simulate(load_scenario(str(SCENARIOS / scenario), list(overrides))).write(folder)
    return RunFolder.read(folder)
