"""The benchmark measures what it says, in the form that is promised."""

from __future__ import annotations

import pytest
from bench import _report
from builds import PLAIN, ROOT
from loads import LOADS, Load, kind_loads, measure_few, trace_overrides
from studies import measure_studies
from timeouts import measure_timeout_us

from simserve import load_scenario, simulate


def test_a_timeout_costs_about_a_microsecond() -> None:
    assert 0.05 < measure_timeout_us(repeats=1) < 50


def test_the_report_has_the_promised_form() -> None:
    figures = {
        "requests_per_cpu_s": 20_000.0,
        "peak_rss_mib": 300.0,
        "wall_s": 5.0,
        "share_in_stretches": 0.95,
    }
    report = _report("plain", 1.25, {"64x100k": figures})
    assert report == {
        "build": "plain",
        "simpy_timeout_us": 1.25,
        "loads": {
            "64x100k": {
                "requests_per_cpu_s": 20_000.0,
                "timeouts_per_request": pytest.approx(50 / 1.25),
                "peak_rss_mib": 300.0,
                "wall_s": 5.0,
                "share_in_stretches": 0.95,
            }
        },
    }


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_every_load_has_its_scenario(load: Load) -> None:
    assert load.scenario.is_file()


def test_a_load_is_measured_in_a_process_of_its_own() -> None:
    few = measure_few(LOADS[0], LOADS[0].scenario, LOADS[0].options)
    assert few.requests == 10
    assert few.cpu_s > 0
    assert few.peak_rss_mib > 10
    assert 0 <= few.share_in_stretches <= 1


def count_few(load: Load, overrides: list[str]) -> int:
    """Serve the first ten requests here."""
    scenario = load_scenario(str(load.scenario), [*overrides, f"{load.limit_key}=10"])
    return len(simulate(scenario).requests.request_id)


@pytest.mark.parametrize("load", [load for load in LOADS if not load.slow], ids=lambda load: load.name)
def test_ten_requests_of_every_load_run(load: Load) -> None:
    overrides = trace_overrides(load)
    if overrides is None:
        pytest.skip("the load's trace is not here; set SIMSERVE_DATA")
    assert count_few(load, overrides) == 10


@pytest.mark.parametrize("load", kind_loads(), ids=lambda load: load.kind)
def test_every_engine_kind_serves_ten_requests(load: Load) -> None:
    assert load.scenario == ROOT / "scenarios" / "benchmarks" / "64x100k.yaml"
    assert count_few(load, load.options) == 10


@pytest.mark.slow
def test_studies_are_measured_with_all_their_processes() -> None:
    sweep, capacity = measure_studies(PLAIN, workers=1, rates=2, requests=20)
    assert (sweep.name, sweep.runs, capacity.name) == ("sweep", 20, "capacity")
    assert capacity.runs > 5
    for each in (sweep, capacity):
        # A process of its own for each run would cost as much as that many lone runs.
        assert 0 < each.cpu_s < 2 * each.wall_s
        assert 0 < each.share_of_lone < 0.9
