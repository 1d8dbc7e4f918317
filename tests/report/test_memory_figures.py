"""What fills the memory of a run: the parts add up, and what is lost is what a count by hand finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.errors import UnknownNameError
from simserve.report.memory_figures import MEMORY_FIGURES, draw_memory
from simserve.report.memory_rows import block_series, last_block_waste, memory_rows, prefix_rows, region_rows
from simserve.report.run_folder import RunFolder
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate


def made(folder: Path, engine: dict[str, Any], **workload: Any) -> RunFolder:
    scenario = {
        "model": "llama-3.1-8b",
        "workload": {
            "requests": 30, "arrivals": 40, "prompt_tokens": 100, "output_tokens": 40, **workload,
        },
        "pools": [{"hardware": "h100-sxm", "replicas": 2, "engine": engine}],
    }  # fmt: skip
    return RunFolder.read(simulate(load_scenario(json.dumps(scenario))).write(folder))


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made(tmp_path_factory.mktemp("memory") / "paged", {}, prefixes={"groups": 2, "tokens": 64})


@pytest.fixture(scope="module")
def contiguous(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made(tmp_path_factory.mktemp("memory") / "contiguous", {"kind": "orca", "max_model_len": 512})


def test_the_items_fill_the_gpu(paged: RunFolder) -> None:
    rows = memory_rows(paged)
    memory = paged.summary["pools"][0]["memory"]
    assert sum(row["bytes"] for row in rows) == memory["total_bytes"]
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    by_item = {row["item"]: row["bytes"] for row in rows}
    most = int(paged.steps["kv_used_blocks"].max())
    assert by_item["KV in use, peak"] == most * memory["block_bytes"]


def test_all_instances_together_are_their_sum(paged: RunFolder) -> None:
    times, used, cached, total = block_series(paged, None)
    assert total == sum(block_series(paged, each)[3] for each in paged.instances)
    for moment in (5, len(times) - 1):
        held = kept = 0
        for instance in paged.instances:
            own_times, own_used, own_cached, _ = block_series(paged, instance)
            at = int(np.searchsorted(own_times, times[moment], side="right")) - 1
            held += int(own_used[at]) if at >= 0 else 0
            kept += int(own_cached[at]) if at >= 0 else 0
        assert (used[moment], cached[moment]) == (held, kept)
    assert (used + cached <= total).all()
    assert cached.max() > 0


def test_empty_places_of_one_request(tmp_path: Path) -> None:
    run = made(tmp_path / "one", {}, requests=1, prompt_tokens=30, output_tokens=10)
    # The steps: the prompt, then 9 decodes that hold 31 ... 39 tokens, in 2 blocks of 16 and then 3.
    (instance,) = run.instances
    times, shares = last_block_waste(run, [instance])
    assert len(times) == 10
    used = [int(each) for each in np.repeat(run.steps["kv_used_blocks"], run.steps["steps"])]
    empty = [0, *(-held % 16 for held in range(31, 40))]
    assert shares.tolist() == pytest.approx(
        [lost / (16 * blocks) for lost, blocks in zip(empty, used, strict=True)]
    )


def test_regions_have_times(contiguous: RunFolder) -> None:
    regions = region_rows(contiguous, 0)
    assert regions is not None
    assert (np.diff(regions["time_s"]) >= 0).all()
    names = ("used_tokens", "later_tokens", "unused_tokens", "rounded_tokens", "free_tokens")
    total = sum(regions[name] for name in names)
    assert len(set(total.tolist())) == 1
    assert memory_rows(contiguous)
    assert not prefix_rows(contiguous)


def test_prefixes_hold_bytes(paged: RunFolder) -> None:
    rows = prefix_rows(paged)
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    pool = paged.summary["pools"][0]
    token_bytes = pool["memory"]["block_bytes"] // pool["kv_block_tokens"]
    assert [row["held_bytes"] for row in rows] == [row["held_tokens"] * token_bytes for row in rows]


@pytest.mark.parametrize("picture", MEMORY_FIGURES)
@pytest.mark.parametrize("instance", [None, 1])
def test_pictures_keep_within_their_points(
    paged: RunFolder, contiguous: RunFolder, picture: str, instance: int | None
) -> None:
    for run in (paged, contiguous):
        figure = draw_memory(run, picture, instance)
        assert 0 < sum(len(trace.x) for trace in figure.data) <= 20_000
        if picture == "kv_blocks":
            *_, total = block_series(run, instance)
            stacked = np.sum([trace.y for trace in figure.data], axis=0)
            assert set(stacked.tolist()) == {total}


def test_no_such_picture(paged: RunFolder) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'kv_blocks'"):
        draw_memory(paged, "kv_block")
