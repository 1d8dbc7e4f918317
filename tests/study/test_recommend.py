"""The best configuration: the same as trying all of them, and what is left out is left out rightly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simserve.cli.entry import app
from simserve.cli.space import Axes, fill_space, read_axes
from simserve.errors import InputError, SimulationError
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate
from simserve.study.bounds import broken_terms, least_level, most_rate
from simserve.study.candidates import Candidate, Unfit, build_candidates
from simserve.study.capacity import find_capacity
from simserve.study.executor import Died
from simserve.study.load import load_of
from simserve.study.options import Option
from simserve.study.probe import Probe, ProbeTask, natural_rate, probe_rate
from simserve.study.recommend import Budget, recommend
from simserve.study.sizing import Limits, find_sizes
from simserve.study.slo_terms import parse_slo
from tests.study.executors import InOrder, LastFirst

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


LOAD = load_of(load_scenario(CHAT))
RATE = natural_rate(LOAD)


def candidates_of(
    axes: dict[str, list[object]], prices: dict[str, float] = PRICES
) -> list[Candidate | Unfit]:
    return list(build_candidates(CHAT, [], axes, prices))


@pytest.mark.parametrize("runners_up", [0, 2])
def test_the_best_is_that_of_trying_all(runners_up: int) -> None:
    """Every candidate is sized by counting up from one instance; the cheapest of them is recommended."""
    candidates = candidates_of({"hardware": ["l40s", "a100-sxm-80gb", "h100-sxm"]})
    costs: dict[str, tuple[int, float]] = {}
    for each in candidates:
        assert isinstance(each, Candidate)
        tasks = (ProbeTask(each.with_sizes((n,)), SLO, RATE) for n in range(1, 9))
        replicas = next(n for n, task in enumerate(tasks, 1) if probe_rate(task).holds)
        name = each.scenario.pools[0].hardware
        costs[name] = (replicas, replicas * PRICES[name])
        assert least_level(each, LOAD, RATE) <= replicas
    ranked = sorted(costs, key=lambda name: costs[name][1])
    found = recommend(candidates, LOAD, SLO, runners_up=runners_up)
    held = [option for option in found.options if option.holds]
    names = [str(option.settings["pools.0.hardware"]) for option in held]
    assert names == ranked[: len(names)]
    assert len(names) > runners_up
    for option in found.options:
        name = str(option.settings["pools.0.hardware"])
        if option.holds:
            assert (option.replicas, option.usd_per_hour) == (costs[name][0], pytest.approx(costs[name][1]))
            assert option.bottleneck
        else:
            assert "dearer than others" in option.verdict
            assert costs[name][1] >= costs[ranked[runners_up]][1]


def test_the_same_is_found_however_many_probes_run_at_once() -> None:
    axes: dict[str, list[object]] = {"hardware": ["l40s", "h100-sxm"], "engine.tensor_parallel_size": [1, 2]}
    told: list[list[object]] = [[], []]
    found = [
        recommend(
            candidates_of(axes), LOAD, SLO, rate_per_s=30.0, executor=executor,
            tried=lambda each, sizes, seed, probe, at=at: at.append((each.settings, sizes, seed, probe)),
        )
        for executor, at in zip((InOrder(), LastFirst(7)), told, strict=True)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert told[0] == told[1]


def test_what_binds_is_what_breaks_with_one_fewer() -> None:
    found = recommend(candidates_of({"hardware": ["l40s"]}), LOAD, SLO, rate_per_s=40.0, objective="gpus")
    best = found.best
    assert best is not None
    assert best.replicas > 1
    assert best.binds
    tried = {sizes: holds for sizes, _, _, holds in best.probes}
    assert tried[best.sizes]
    assert not tried[(best.replicas - 1,)]


def test_with_several_seeds_each_must_hold() -> None:
    """As many instances as the seed that needs most, and the worst figure of all."""
    candidates, rate = candidates_of({"hardware": ["l40s"]}), 34.0
    (candidate,) = candidates
    assert isinstance(candidate, Candidate)

    def probe(instances: int, seed: int) -> Probe:
        return probe_rate(ProbeTask(candidate.with_sizes((instances,), seed), SLO, rate))

    needed = [next(n for n in range(2, 9) if probe(n, seed).holds) for seed in (0, 1)]
    assert needed[0] < needed[1]
    one, two = (
        recommend(candidates, LOAD, SLO, rate_per_s=rate, objective="gpus", seeds=seeds).best
        for seeds in (1, 2)
    )
    assert one is not None
    assert two is not None
    assert [one.sizes, two.sizes] == [(needed[0],), (needed[1],)]
    worst = max(probe(needed[1], seed).figures["p90_ttft_ms"] or 0.0 for seed in (0, 1))
    assert (two.figures or {})["p90_ttft_ms"] == worst
    assert {seed for sizes, _, seed, _ in two.probes if sizes == two.sizes} == {0, 1}
    assert two.binds


def test_processes_that_all_die_are_no_answer() -> None:
    class Dying(InOrder):
        def run(self, call: Any, feed: Any) -> Iterator[Any]:
            while (asked := feed()) is not None:
                yield asked, Died("its process died 3 times")

    with pytest.raises(SimulationError, match=r"nothing could be simulated: .*try --workers 1"):
        recommend(candidates_of({"hardware": ["l40s", "h100-sxm"]}), LOAD, SLO, executor=Dying())


def test_throughput_an_accelerator_is_the_capacity_of_each() -> None:
    candidates = candidates_of({"hardware": ["l40s", "h100-sxm"], "engine.max_num_seqs": [32]}, {})
    found = recommend(candidates, LOAD, SLO, objective="throughput_per_gpu", tolerance=0.1)
    each = [option.rate_per_s / option.gpus for option in found.options]
    assert each == sorted(each, reverse=True)
    assert len(each) == 2
    assert found.rate_per_s is None
    for candidate in candidates:
        assert isinstance(candidate, Candidate)
        (option,) = (option for option in found.options if option.settings == candidate.settings)
        alone = find_capacity(candidate.scenario, SLO, tolerance=0.1)
        assert option.rate_per_s == pytest.approx(alone.rate_per_s, rel=0.11)
        assert option.rate_per_s <= most_rate(candidate, LOAD)
        assert option.binds


def test_energy_is_counted_from_the_power_that_is_given() -> None:
    candidates = candidates_of({"hardware": ["l40s", "h100-sxm"]}, {})
    with pytest.raises(
        InputError, match=r"power of l40s is not known.*--power l40s=IDLE:BUSY.*--power l40s=tdp.*350 W"
    ):
        recommend(candidates, LOAD, SLO, objective="energy")
    powers = {"l40s": (50.0, 50.0), "h100-sxm": (200.0, 200.0)}
    found = recommend(candidates, LOAD, SLO, objective="energy", powers=powers)
    for option in found.options:
        # The power is the same with and without a step: energy is power times the time of the run.
        name = str(option.settings["pools.0.hardware"])
        joules = option.value("energy")
        assert joules is not None
        seconds = joules * LOAD.count / (powers[name][0] * option.gpus)
        assert LOAD.count / RATE * 0.95 < seconds < LOAD.count / RATE * 1.5
    values = [option.value("energy") or 0.0 for option in found.options]
    assert values == sorted(values)


def test_limits_and_budgets() -> None:
    candidates = candidates_of({"hardware": ["l40s", "h100-sxm"]})
    dear = recommend(candidates, LOAD, SLO, limits=Limits(usd_per_hour=1.0))
    assert {
        option.settings["pools.0.hardware"]: option.verdict for option in dear.options if not option.holds
    } == {
        "h100-sxm": "needs 1 instance at least: more than 1 USD an hour",
        **(
            {}
            if dear.best
            else {"l40s": "does not hold with 1 instance: one more is more than 1 USD an hour"}
        ),
    }
    few = recommend(candidates, LOAD, SLO, rate_per_s=200.0, limits=Limits(gpus=3), objective="gpus")
    assert few.best is None
    assert all("more than 3 accelerators" in option.verdict for option in few.options)
    short = recommend(candidates, LOAD, SLO, budget=Budget(probes=1))
    assert short.stopped == "out of probes"
    assert sum(len(option.probes) for option in short.options) == 1
    assert "not reached" in [option.verdict for option in short.options]


def test_ctrl_c_gives_the_best_so_far() -> None:
    candidates = candidates_of({"hardware": ["l40s", "h100-sxm"]})
    whole = recommend(candidates, LOAD, SLO)
    first = next(option for option in whole.options if option.settings == {"pools.0.hardware": "l40s"})
    found = recommend(candidates, LOAD, SLO, executor=InOrder(stop_after=len(first.probes)))
    assert found.stopped == "interrupted"
    assert found.best == first
    assert found.options[1].verdict == "not reached"


class Enough(InOrder):
    """Answers without simulating: so many instances hold, fewer do not."""

    def __init__(self, instances: int, stop_after: int = 10**9) -> None:
        super().__init__(stop_after)
        self.instances = instances

    def run(self, call: Any, feed: Any) -> Iterator[Any]:
        """See `simserve.study.executor.Executor`."""

        def answer(asked: Any) -> Probe:
            holds = asked[0][1][0] >= self.instances
            return Probe(asked[1].rate_per_s, holds, True, {term.key: 1.0 for term in SLO})

        return super().run(answer, feed)


def test_a_search_that_ends_early_keeps_what_it_knows() -> None:
    """Two seeds hold with some number of instances; whether fewer do is not known yet."""
    candidates = candidates_of({"hardware": ["l40s"]})

    def search(executor: Enough, probes: int | None = None) -> Option:
        budget = Budget(probes=probes)
        (option,) = recommend(
            candidates,
            LOAD,
            SLO,
            rate_per_s=60.0,
            objective="gpus",
            seeds=2,
            executor=executor,
            budget=budget,
        ).options
        return option

    whole = search(Enough(12))
    assert (whole.sizes, whole.unfinished) == ((12,), False)
    held = [(sizes, seed) for sizes, _, seed, holds in whole.probes if holds]
    first = held[0][0]
    assert held[1] == (first, 1)
    assert first[0] > 12
    known = [probe[:3] for probe in whole.probes].index((first, 60.0, 1)) + 1
    for option in (search(Enough(12, known)), search(Enough(12), known)):
        assert (option.sizes, option.unfinished) == (first, True)
    assert search(Enough(12), known - 1).verdict == "not finished: nothing that was tried holds"
    assert search(Enough(12, 0)).verdict == "not reached"


def test_pools_grow_together_and_each_gives_up_what_it_can_spare() -> None:
    """A pool of two and one of one instance: twice as many of both hold, and fewer of the first."""
    text = CHAT.replace(
        "pools: l40s", "pools: [{name: a, hardware: l40s, replicas: 2}, {name: b, hardware: h100-sxm}]"
    )
    (candidate,) = build_candidates(text, [], {}, PRICES)
    assert isinstance(candidate, Candidate)
    assert [candidate.sizes_at(level) for level in (1, 2, 3, 4)] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    asked: list[tuple[int, ...]] = []

    def holds(sizes: tuple[int, ...]) -> bool:
        asked.append(sizes)
        return sizes[0] >= 2 and sizes[1] >= 2

    sized = find_sizes(candidate, 1, holds, lambda sizes: "too many" if sum(sizes) > 20 else "")
    assert sized.sizes == (2, 2)
    assert set(sized.smaller) == {(1, 2), (2, 1)}
    assert set(sized.smaller) <= set(asked)
    assert candidate.usd_per_hour((2, 2)) == pytest.approx(2 * 0.9 + 2 * 2.5)
    found = recommend([candidate], LOAD, SLO)
    assert found.best is not None
    assert found.best.sizes == (1, 1)


def test_what_cannot_be_is_out_with_its_reason() -> None:
    found = candidates_of({"hardware": ["l40s", "v100-pcie-16gb"], "engine.tensor_parallel_size": [1, 3]})
    reasons = [each.reason for each in found if isinstance(each, Unfit)]
    assert len(reasons) == 3
    assert any("fit" in reason for reason in reasons)


def test_a_term_that_one_request_breaks_is_told_without_a_simulation() -> None:
    (candidate,) = candidates_of({"hardware": ["l40s"]})
    assert isinstance(candidate, Candidate)
    slo = parse_slo("tpot_p50<=1ms, ttft_p99<=10s")
    assert [term.text for term in broken_terms(candidate, LOAD, slo)] == ["tpot_p50<=1ms"]
    found = recommend([candidate], LOAD, slo)
    assert found.best is None
    assert found.options[0].verdict == "a request alone breaks tpot_p50<=1ms"
    assert found.options[0].probes == ()


def test_a_price_that_nobody_knows_is_asked_for() -> None:
    with pytest.raises(InputError, match="--price l40s=USD"):
        recommend(candidates_of({"hardware": ["l40s"]}, {}), LOAD, SLO)
    assert recommend(candidates_of({"hardware": ["l40s"]}, {}), LOAD, SLO, objective="gpus").best
    with pytest.raises(InputError, match="no price of l40s, h100-sxm is known"):
        recommend(
            candidates_of({"hardware": ["l40s", "a100-sxm-80gb", "h100-sxm"]}, {"a100-sxm-80gb": 1.0}),
            LOAD,
            SLO,
        )


def test_the_pareto_front_has_no_option_that_another_beats() -> None:
    axes: dict[str, list[object]] = {"hardware": ["l40s", "h100-sxm"]}
    found = recommend(candidates_of(axes, {"l40s": 1.0, "h100-sxm": 1.0}), LOAD, SLO)
    front = found.pareto("p90_ttft_ms")
    assert front[0] is found.best
    costs = [option.usd_per_hour for option in front]
    assert costs == sorted(costs, key=lambda cost: cost or 0.0)


def test_axes_are_read() -> None:
    given = {"hardware": "l40s,h100-sxm", "engine.kind": None, "engine.tensor_parallel_size": "1,2"}
    axes = read_axes(given, ["pools.0.engine.max_num_seqs=64,256", "pools.1.hardware=l4"])
    assert axes == {
        "hardware": ["l40s", "h100-sxm"],
        "engine.tensor_parallel_size": [1, 2],
        "engine.max_num_seqs": [64, 256],
        "pools.1.hardware": ["l4"],
    }
    for wrong, message in (("engine.kind", "expected KEY"), ("pools.0.hardware=l40s", "stands twice")):
        with pytest.raises(InputError, match=message):
            read_axes(given, [wrong])


def test_what_nobody_asked_for_is_taken_from_the_prices_and_the_scenario() -> None:
    one = load_scenario(CHAT)
    assert fill_space({}, {}, one) == {"hardware": ["l40s"], "engine.tensor_parallel_size": [1, 2, 4, 8]}
    asked: Axes = {"engine.kind": ["vllm"], "engine.tensor_parallel_size": [2]}
    assert fill_space(asked, {"l4": 0.4, "h100-sxm": 2.0}, one) == {"hardware": ["l4", "h100-sxm"], **asked}
    two = load_scenario(
        CHAT.replace("pools: l40s", "pools: [{name: a, hardware: l4}, {name: b, hardware: l4}]")
    )
    assert fill_space({}, {"l4": 0.4}, two) == {}


def test_the_command_line(tmp_path: Path) -> None:
    file, best = tmp_path / "chat.yaml", tmp_path / "best.yaml"
    file.write_text(CHAT)
    command = ["recommend", str(file), "--slo", "ttft_p90<=0.5s", "--hardware", "l40s,l4", "--workers", "1"]
    options = ["--objective", "gpus", "--rate", "6", "--max-num-seqs", "64", "--json", "--out", str(best)]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["space"]["engine.tensor_parallel_size"] == [1, 2, 4, 8]
    assert len(found["options"]) == 8
    scenario = load_scenario(str(best))
    assert scenario.pools[0].hardware == found["best"]["settings"]["pools.0.hardware"]
    assert scenario.pools[0].replicas == found["best"]["replicas"]
    assert scenario.slo.ttft_s == 0.5
    assert scenario.name.startswith("chat: hardware=l4")
    command_told, _ = best.read_text().split("\n", 1)
    assert command_told.startswith(
        f"# Found by: simserve recommend {file} --slo 'ttft_p90<=0.5s' --objective gpus"
    )
    assert natural_rate(load_of(scenario)) == pytest.approx(6, rel=1e-3)
    # A run of it counts the part that was judged, and so has the figures that were told.
    figure = found["best"]["figures"]["p90_ttft_ms"]
    assert simulate(scenario).summary["p90_ttft_ms"] == pytest.approx(figure, rel=1e-6)
    shown = CliRunner().invoke(app, [*command, "--tp", "1", "--price", "l40s=0.9", "--price", "l4=0.4"])
    assert shown.exit_code == 0, shown.output
    assert "space: 2 configurations: hardware l40s, l4; tensor_parallel_size 1" in shown.stdout
    assert f"run it: simserve run {file} --set pools.0.hardware=" in shown.stdout
    assert "Pareto front of cost and p90_ttft_ms, of what was simulated: hardware=" in shown.stdout
    assert f"sized with seed 0 alone; its room: simserve capacity {file} --set pools.0" in shown.stdout
