"""ServeGen populations: rates and lengths are the windows' and the quantiles' own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simserve.errors import TraceError
from simserve.workload.trace import detect_format, read_trace

WINDOWS = """client,start_s,rate_rps,cv,dist,p1,p2
0,0,2,3.0,Gamma,0.111,1
0,600,4,1.0,Weibull,1.0,1
1,0,1,1.0,Gamma,1.0,1
2,600,0.5,1.0,Gamma,1.0,1
"""
LENGTHS = """client,start_s,field,mean,q0,q0.5,q1
0,0,input_tokens,150,100,150,200
0,600,input_tokens,1050,1000,1050,1100
0,0,output_tokens,10,10,10,10
1,0,text_tokens,5,5,5,5
1,0,image_tokens,100,100,100,100
1,0,image_count,2,2,2,2
1,0,output_tokens,20,20,20,20
"""


@pytest.fixture
def population(tmp_path: Path) -> Path:
    (tmp_path / "p_length_quantiles.csv").write_text(LENGTHS)
    path = tmp_path / "p_client_windows.csv"
    path.write_text(WINDOWS)
    return path


def test_rates_and_lengths_of_clients(population: Path) -> None:
    assert detect_format(population) == "servegen"
    load = read_trace(population, duration_s=1200.0, seed=3)
    assert load.tenant is not None
    names = np.array(load.tenant.texts(0, load.count))
    seconds = load.arrival_ns / 1e9
    # A window's number of requests is exact where rate x 600 s is whole.
    assert np.count_nonzero((names == "client-0") & (seconds < 600)) == 1200
    assert np.count_nonzero((names == "client-0") & (seconds >= 600)) == 2400
    assert np.count_nonzero(names == "client-1") == 600
    assert np.count_nonzero(names == "client-2") == 300
    first = load.prompt_tokens[(names == "client-0") & (seconds < 600)]
    assert (first.min() >= 100, first.max() <= 200, first.mean()) == (True, True, pytest.approx(150, abs=3))
    assert load.prompt_tokens[(names == "client-0") & (seconds >= 600)].min() >= 1000
    assert set(load.prompt_tokens[names == "client-1"].tolist()) == {205}
    gaps = np.diff(seconds[(names == "client-0") & (seconds < 600)])
    assert gaps.std() / gaps.mean() == pytest.approx(3, rel=0.2)
    # Client 2 has no quantiles and borrows another's.
    assert set(load.output_tokens[names == "client-2"].tolist()) in ({10}, {20})


def test_parts_and_scales(population: Path) -> None:
    part = read_trace(population, start_s=300.0, duration_s=300.0, clients=1, seed=1)
    assert part.tenant is not None
    assert part.tenant.names == ("client-0",)
    assert part.count == pytest.approx(600, rel=0.25)
    assert part.arrival_ns[-1] < 300e9
    scaled = read_trace(population, duration_s=600.0, rate_per_s=9.0, rate_scale=2.0, seed=1)
    assert scaled.count == 9 * 2 * 600


def test_seeds(population: Path) -> None:
    loads = [read_trace(population, seed=seed).arrival_ns for seed in (1, 1, 2)]
    assert np.array_equal(loads[0], loads[1])
    assert not np.array_equal(loads[0], loads[2])


def test_errors(population: Path) -> None:
    with pytest.raises(TraceError, match="no client is active from 5000 s on"):
        read_trace(population, start_s=5000.0)
    population.write_text(WINDOWS.replace("Weibull", "Pareto"))
    with pytest.raises(TraceError, match=r"csv:3:13: dist is 'Pareto'; expected Gamma or Weibull"):
        read_trace(population)
    population.with_name("p_length_quantiles.csv").unlink()
    population.write_text(WINDOWS)
    with pytest.raises(TraceError, match=r"expected p_length_quantiles\.csv, or the option `lengths`"):
        read_trace(population)


def test_a_day_of_deepseek_r1_has_its_rate_and_lengths(data_dir: Path) -> None:
    path = data_dir / "traces" / "servegen" / "deepseek-r1_client_windows.csv.gz"
    load = read_trace(path, duration_s=86400.0, seed=1)
    # The collection states 1.38 M requests, and 1377 / 1502 tokens on average; the lengths of a client change
    # over the day and quantiles are interpolated, hence 10 %.
    assert load.count == pytest.approx(1.38e6, rel=0.005)
    assert load.prompt_tokens.mean() == pytest.approx(1377, rel=0.1)
    assert load.output_tokens.mean() == pytest.approx(1502, rel=0.1)
