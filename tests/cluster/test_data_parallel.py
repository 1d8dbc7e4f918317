"""Instances of several data-parallel ranks, from the scenario to the files of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from simserve.errors import InputError
from simserve.metrics.pools import cost_usd
from simserve.metrics.result import Result
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.engine_plan import EnginePlan
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate

MOE, DENSE = "qwen3-30b-a3b", "llama-3.1-8b"


def scenario(model: str = MOE, rate: float = 20.0, **engine: Any) -> dict[str, Any]:
    return {
        "model": model,
        "workload": {"requests": 60, "arrivals": rate, "prompt_tokens": 500, "output_tokens": 50},
        "pools": [{"hardware": "h100-sxm", "engine": engine}],
    }


def run(model: str = MOE, rate: float = 20.0, **engine: Any) -> Result:
    return simulate(load_scenario(json.dumps(scenario(model, rate, **engine))))


def plan(model: str = MOE, **engine: Any) -> EnginePlan:
    return plan_engine(load_scenario(json.dumps(scenario(model, **engine))), 0)


def test_a_rank_holds_its_share_of_the_experts_and_all_of_the_rest() -> None:
    one, two = plan().memory, plan(data_parallel_size=2, enable_expert_parallel=True).memory
    shape = plan().shape
    layers = sum(shape.layer_experts)
    experts = layers * shape.num_experts * shape.expert_parameters() * 2
    assert two.weight_bytes == pytest.approx(one.weight_bytes - experts / 2, abs=2)
    assert two.num_gpu_blocks > one.num_gpu_blocks
    # Slices of experts weigh what whole ones do.
    assert plan(data_parallel_size=2).memory.weight_bytes == two.weight_bytes
    # Its attention works on whole heads, so a block has the same size; with TP 2 it has half.
    assert two.block_bytes == one.block_bytes == 2 * plan(tensor_parallel_size=2).memory.block_bytes
    # The experts see the tokens of all ranks (with few seats, so that the sampler is not what counts).
    few, more = plan(max_num_seqs=64), plan(max_num_seqs=64, data_parallel_size=2)
    assert more.memory.activation_bytes > few.memory.activation_bytes


def test_ranks_of_a_dense_model_are_whole() -> None:
    assert plan(DENSE, data_parallel_size=4).memory == plan(DENSE).memory


def test_experts_are_shared_equally_or_not_at_all() -> None:
    with pytest.raises(InputError, match=r"data_parallel_size: 3 ranks cannot share the 128 experts"):
        plan(data_parallel_size=3, enable_expert_parallel=True)


@pytest.mark.parametrize("model", [MOE, DENSE])
def test_every_request_has_an_engine_and_a_rank(model: str, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    made = scenario(model, data_parallel_size=2)
    made["pools"][0]["replicas"] = 2
    made["pools"][0]["queue"] = {"limit": 0}
    result = simulate(load_scenario(json.dumps(made)))
    result.write(tmp_path)
    requests = parquet.read_table(tmp_path / "requests.parquet").to_pydict()
    for instance, rank, status in zip(
        requests["instance"], requests["rank"], requests["status"], strict=True
    ):
        assert rank == (-1 if instance < 0 else instance % 2), status
    assert set(requests["instance"]) - {-1} == {0, 1, 2, 3}
    # A request's first token comes at the end of a step of its rank.
    times = parquet.read_table(tmp_path / "step_times.parquet").to_pydict()
    ends = set(zip(times["instance"], times["end_s"], strict=True))
    firsts = [
        pair
        for pair in zip(requests["instance"], requests["first_token_s"], strict=True)
        if pair[1] is not None
    ]
    assert len(firsts) >= 50
    assert set(firsts) <= ends


def test_ranks_in_lock_step_have_the_same_step_ends_and_dense_ones_do_not() -> None:
    moe = run(data_parallel_size=2)
    assert [log.rank for log in moe.steps] == [0, 1]
    assert moe.steps[0].end_ns == moe.steps[1].end_ns
    dense = run(DENSE, data_parallel_size=2)
    assert dense.steps[0].end_ns != dense.steps[1].end_ns


def test_two_dense_ranks_serve_as_two_replicas_behind_round_robin() -> None:
    made = scenario(DENSE, rate=100.0)
    made["pools"][0]["replicas"] = 2
    made["router"] = "round_robin"
    replicas, ranks = simulate(load_scenario(json.dumps(made))), run(DENSE, 100.0, data_parallel_size=2)
    # All is sent within five seconds, so the front end takes turns.
    assert ranks.requests.instance == replicas.requests.instance
    assert ranks.requests.end_ns == replicas.requests.end_ns


def test_two_ranks_with_experts_serve_more_than_one_and_less_than_twice_as_much() -> None:
    """At saturation: bounds that hold whatever the exchange costs."""
    one, two = (
        run(rate=1e4, max_num_seqs=30),
        run(rate=1e4, max_num_seqs=30, data_parallel_size=2, enable_expert_parallel=True),
    )
    ratio = two.summary["output_throughput"] / one.summary["output_throughput"]
    assert 1.0 < ratio < 3.0
    # An unequal split makes both ranks as slow as the fuller one; the front end spreads evenly.
    counts = np.bincount(np.array(two.requests.instance))
    assert counts.tolist() == [30, 30]


def test_an_instance_has_the_accelerators_of_all_its_ranks() -> None:
    for result, accelerators in ((run(), 1), (run(data_parallel_size=2, tensor_parallel_size=2), 4)):
        pools = result.pools
        assert sum(len(pool.instances) * pool.accelerators for pool in pools) == accelerators
        priced = [replace(pool, price_usd_per_hour=2.0 * pool.accelerators) for pool in pools]
        assert cost_usd(priced, 3600.0) == pytest.approx(2.0 * accelerators)


def test_pipelines_of_ranks_run() -> None:
    result = run(data_parallel_size=2, pipeline_parallel_size=2)
    assert result.summary["completed"] == 60
    assert result.steps[0].end_ns == result.steps[1].end_ns


def test_the_command_line_runs_and_explains_it(
    run_cli: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    path = tmp_path / "ranks.yaml"
    path.write_text(json.dumps(scenario(data_parallel_size=2, enable_expert_parallel=True)), encoding="utf-8")

    done = run_cli("run", str(path), "--json", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["completed"] == 60
    explained = run_cli("run", str(path), "--explain", "step")
    assert "dispatch_experts" in explained.stdout, explained.stderr
    refused = run_cli("run", str(path), "--set", "pools.0.engine.data_parallel_size=5")
    assert refused.returncode == 2
    assert "5 ranks cannot share the 128 experts" in refused.stderr
