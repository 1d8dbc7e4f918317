"""Step timers are kept between the runs of a process, and a run does not notice."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from simserve import load_scenario, simulate
from simserve.cost.build import CostSpec
from simserve.cost.host import NO_HOST
from simserve.scenario import catalog
from simserve.scenario.catalog import load_hardware, load_model
from simserve.scenario.step_timers import _MOST_KEPT, find_timers

ANALYTIC = CostSpec()


def find(spec: CostSpec = ANALYTIC, hardware: str = "h100-sxm", **options: Any) -> object:
    """The first stage's timer."""
    return find_timers(spec, load_model("llama-3.1-8b"), load_hardware(hardware), NO_HOST, **options)[0]


def test_equal_pools_share_timers() -> None:
    assert find(tensor_parallel_size=2) is find(tensor_parallel_size=2)
    others = [
        find(),
        find(tensor_parallel_size=4),
        find(hardware="l40s"),
        find(CostSpec(sustained_rates=False)),
        find(kv_cache_dtype="fp8"),
    ]
    assert len({id(timer) for timer in [find(tensor_parallel_size=2), *others]}) == 6


def test_only_what_is_dear_and_cannot_change_is_kept() -> None:
    constant = CostSpec("constant", base_s=0.1)
    assert find(constant) is not find(constant)


def test_the_oldest_go_first() -> None:
    first, second = find(), find(cpu_offload_bytes=1e9)
    for gigabytes in range(2, _MOST_KEPT + 1):
        find(cpu_offload_bytes=gigabytes * 1e9)
        assert find() is first
    assert find(cpu_offload_bytes=1e9) is not second


def test_threads_share_nothing() -> None:
    found: list[object] = []
    thread = Thread(target=lambda: found.append(find()))
    thread.start()
    thread.join()
    assert found[0] is not find()


def test_a_calibration_that_changes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an accelerator is fitted and then simulated."""
    monkeypatch.setattr(catalog, "data_folder", lambda name: tmp_path)
    file = tmp_path / "calibration" / "h100-sxm.yaml"
    file.parent.mkdir()
    accelerator = load_hardware("rtx-4090")
    assert catalog.load_calibration(accelerator) is None
    file = file.with_name("rtx-4090.yaml")
    for version, rate in enumerate((1e12, 2e12)):
        file.write_text(f"sustained_flops_per_s: {{bfloat16: {rate}}}\n")
        os.utime(file, (0, version))
        content = catalog.load_calibration(accelerator)
        assert content == {"sustained_flops_per_s": {"bfloat16": rate}}
        assert catalog.load_calibration(accelerator) is content


def test_what_ran_before_changes_no_run() -> None:
    """Tables that other loads have made grow price the same steps alike."""
    load = ["workload.trace.limit=40"]
    alone = simulate(load_scenario("quickstart", load))
    simulate(load_scenario("quickstart", ["workload.trace.limit=200", "workload.trace.rate_scale=9"]))
    again = simulate(load_scenario("quickstart", load))
    assert list(again.requests.end_ns) == list(alone.requests.end_ns)
    assert again.summary == alone.summary
