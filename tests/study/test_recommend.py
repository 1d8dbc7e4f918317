"""The cheapest configuration: the same as trying all of them, and what is left out is left out rightly."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simserve.cli.entry import app
from simserve.cli.recommend import read_axes
from simserve.data_files import find_file
from simserve.errors import InputError
from simserve.scenario.loader import load_scenario
from simserve.scenario.workload_build import build_workload
from simserve.study.candidates import Candidate, Unfit, broken_terms, build_candidates, least_instances
from simserve.study.capacity import natural_rate, probe_rate
from simserve.study.recommend import recommend
from simserve.study.slo_terms import parse_slo
from simserve.workload.workload import Workload

CHAT = """
model: llama-3.1-8b
workload:
  arrivals: {kind: poisson, rate_per_s: 12}
  prompt_tokens: {median: 600, sigma: 0.5}
  output_tokens: {median: 60, sigma: 0.5}
  requests: 300
pools: l40s
"""
SLO = parse_slo("ttft_p90<=0.5s, tpot_p99<=100ms")
PRICES = {"l40s": 0.9, "a100-sxm-80gb": 1.5, "h100-sxm": 2.5}


def load_of(text: str) -> Workload:
    scenario = load_scenario(text)
    finder = partial(find_file, beside=scenario.folder)
    return build_workload(scenario.workload, seed=scenario.seed, find_file=finder)


def candidates_of(
    axes: dict[str, list[object]], prices: dict[str, float] = PRICES
) -> list[Candidate | Unfit]:
    return list(build_candidates(CHAT, [], axes, prices))


def test_the_best_is_that_of_trying_all() -> None:
    """Every candidate is sized by counting up from one instance; the cheapest of them is recommended."""
    axes: dict[str, list[object]] = {"hardware": ["l40s", "a100-sxm-80gb", "h100-sxm"]}
    load, candidates = load_of(CHAT), candidates_of(axes)
    rate = natural_rate(load)
    costs: dict[str, tuple[int, float]] = {}
    for each in candidates:
        assert isinstance(each, Candidate)
        replicas = next(
            n for n in range(1, 9) if probe_rate(each.with_replicas(n), load, SLO, rate, rate).holds
        )
        name = each.scenario.pools[0].hardware
        costs[name] = (replicas, replicas * PRICES[name])
        assert least_instances(each, load, rate) <= replicas
    best = min(costs, key=lambda name: costs[name][1])
    found = recommend(candidates, load, SLO)
    assert found.best is not None
    assert found.best.settings == {"pools.0.hardware": best}
    assert (found.best.replicas, found.best.usd_per_hour) == (costs[best][0], pytest.approx(costs[best][1]))
    for option in found.options:
        name = str(option.settings["pools.0.hardware"])
        if option.replicas:
            assert option.replicas == costs[name][0]
        else:
            assert "dearer than the best" in option.verdict
            assert costs[name][1] >= costs[best][1]


def test_what_binds_is_what_breaks_with_one_fewer() -> None:
    load = load_of(CHAT)
    found = recommend(candidates_of({"hardware": ["l40s"]}), load, SLO, rate_per_s=40.0, objective="gpus")
    best = found.best
    assert best is not None
    assert best.replicas > 1
    assert best.binds
    assert dict(best.probes)[best.replicas]
    assert not dict(best.probes)[best.replicas - 1]


def test_what_cannot_be_is_out_with_its_reason() -> None:
    found = candidates_of({"hardware": ["l40s", "v100-pcie-16gb"], "engine.tensor_parallel_size": [1, 3]})
    reasons = [each.reason for each in found if isinstance(each, Unfit)]
    assert len(reasons) == 3
    assert any("fit" in reason for reason in reasons)


def test_a_term_that_one_request_breaks_is_told_without_a_simulation() -> None:
    (candidate,) = candidates_of({"hardware": ["l40s"]})
    assert isinstance(candidate, Candidate)
    load = load_of(CHAT)
    slo = parse_slo("tpot_p50<=1ms, ttft_p99<=10s")
    assert [term.text for term in broken_terms(candidate, load, slo)] == ["tpot_p50<=1ms"]
    found = recommend([candidate], load, slo)
    assert found.best is None
    assert found.options[0].verdict == "a request alone breaks tpot_p50<=1ms"
    assert found.options[0].probes == ()


def test_a_price_that_nobody_knows_is_asked_for() -> None:
    with pytest.raises(InputError, match="--price l40s=USD"):
        recommend(candidates_of({"hardware": ["l40s"]}, {}), load_of(CHAT), SLO)
    assert recommend(candidates_of({"hardware": ["l40s"]}, {}), load_of(CHAT), SLO, objective="gpus").best


def test_the_pareto_front_has_no_option_that_another_beats() -> None:
    axes: dict[str, list[object]] = {"hardware": ["l40s", "h100-sxm"]}
    found = recommend(candidates_of(axes, {"l40s": 1.0, "h100-sxm": 1.0}), load_of(CHAT), SLO)
    front = found.pareto("p90_ttft_ms")
    assert front[0] is found.best
    costs = [option.usd_per_hour for option in front]
    assert costs == sorted(costs, key=lambda cost: cost or 0.0)


def test_axes_are_read() -> None:
    axes = read_axes("l40s,h100-sxm", "1,2", ["engine.max_num_seqs=64,256"])
    assert axes == {
        "hardware": ["l40s", "h100-sxm"],
        "engine.tensor_parallel_size": [1, 2],
        "engine.max_num_seqs": [64, 256],
    }
    for wrong, message in (("engine.kind", "expected KEY"), ("hardware=l40s", "stands twice")):
        with pytest.raises(InputError, match=message):
            read_axes("l40s", None, [wrong])


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(CHAT)
    command = ["recommend", str(tmp_path / "chat.yaml"), "--slo", "ttft_p90<=0.5s", "--hardware", "l40s,l4"]
    done = CliRunner().invoke(
        app, [*command, "--objective", "gpus", "--json", "--out", str(tmp_path / "b.yaml")]
    )
    assert done.exit_code == 0, done.output
    best = json.loads(done.stdout)["best"]
    scenario = load_scenario(str(tmp_path / "b.yaml"))
    assert scenario.pools[0].hardware == best["settings"]["pools.0.hardware"]
    assert scenario.pools[0].replicas == best["replicas"]
    wrong = CliRunner().invoke(app, [*command, "--price", "l40s"])
    assert "expected NAME=USD" in str(wrong.exception)
