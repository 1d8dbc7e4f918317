"""Every shipped scenario loads without a warning, says what it shows, and carries the schema's line."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.data_files import data_folder
from simserve.scenario.checks import check_scenario
from simserve.scenario.loader import load_scenario, scenario_names
from simserve.scenario.schema import Scenario

FOLDER = data_folder("scenarios")


def load(name: str, request: pytest.FixtureRequest) -> Scenario:
    """Load a shipped scenario; the trace of `azure-conv` does not ship and comes from the measured data."""
    if name != "benchmarks/azure-conv":
        return load_scenario(FOLDER / f"{name}.yaml")
    data: Path = request.getfixturevalue("data_dir")
    trace = data / "traces" / "azure" / "AzureLLMInferenceTrace_conv.csv.gz"
    return load_scenario(FOLDER / f"{name}.yaml", [f"workload.trace.path={trace}"])


@pytest.mark.parametrize("name", scenario_names())
def test_loads_without_warnings(name: str, request: pytest.FixtureRequest) -> None:
    assert check_scenario(load(name, request)) == []


@pytest.mark.parametrize("name", scenario_names())
def test_says_what_it_shows(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    schema = lines[0].removeprefix("# yaml-language-server: $schema=")
    assert (FOLDER / f"{name}.yaml").parent.joinpath(schema).resolve() == (FOLDER / "schema.json").resolve()
    assert lines[1].startswith("# ")
    assert lines[1].endswith((".", "?"))


@pytest.mark.parametrize(
    ("name", "replicas", "requests", "rate_per_s", "prompt", "output"),
    [
        ("2x50k", 2, 50_000, 20, 2048, 128),
        ("16x10k", 16, 10_000, 160, 512, 128),
        ("64x100k", 64, 100_000, 640, 2048, 128),
        ("64x1m", 64, 1_000_000, 640, 2048, 128),
    ],
)
def test_benchmarks_are_the_published_loads(
    name: str, replicas: int, requests: int, rate_per_s: float, prompt: int, output: int
) -> None:
    scenario = load_scenario(FOLDER / "benchmarks" / f"{name}.yaml")
    load, pool = scenario.workload, scenario.pools[0]
    assert load.arrivals is not None
    assert load.prompt_tokens is not None
    assert load.output_tokens is not None
    assert (load.arrivals.kind, load.arrivals.rate_per_s, load.requests) == ("poisson", rate_per_s, requests)
    assert (load.prompt_tokens.value, load.output_tokens.value) == (prompt, output)
    assert (pool.replicas, pool.hardware, scenario.model) == (replicas, "h100-sxm", "llama-3.1-8b")
    engine = pool.engine
    assert (engine.max_num_batched_tokens, engine.max_num_seqs, engine.block_size) == (8192, 256, 16)
    assert engine.enable_prefix_caching
