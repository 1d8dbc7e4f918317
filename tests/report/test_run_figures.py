"""Pictures of a run: they show what the run says, in a bounded number of points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simserve.errors import UnknownNameError
from simserve.report import life_figures
from simserve.report.load_figures import load_series
from simserve.report.run_figures import FIGURES, draw_run
from simserve.report.run_folder import RunFolder
from simserve.report.thinning import binned_percentiles, thin_distribution, thin_series
from simserve.report.time_parts import split_time
from tests.report.runs import made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made("quickstart.yaml", tmp_path_factory.mktemp("run") / "out", "workload.trace.limit=120")


def test_every_picture_draws_within_its_points(run: RunFolder) -> None:
    pytest.importorskip("plotly")
    for draw in FIGURES:
        figure = draw(run)
        points = sum(len(trace.x) for trace in figure.data)
        assert 0 < points <= 20_000, draw.__name__


@pytest.mark.parametrize(
    ("scenario", "overrides", "least"),
    [
        ("quickstart.yaml", ["workload.trace.limit=60"], {"GEMMs": 0.7, "attention of decodes": 0.02}),
        ("tensor-parallel.yaml", ["workload.requests=40"], {"collectives": 0.03}),
        ("mixture-of-experts.yaml", ["workload.requests=40"], {"experts": 0.1}),
        ("queueing-check.yaml", ["workload.requests=40"], {"step": 1.0}),
    ],
)
def test_the_time_of_steps_is_split(
    tmp_path: Path, scenario: str, overrides: list[str], least: dict[str, float]
) -> None:
    run = made(scenario, tmp_path / "out", *overrides)
    found = split_time(run)
    for parts in (found.operators, found.bounds, found.phases):
        assert sum(parts.values()) == pytest.approx(1.0)
    for name, share in least.items():
        assert found.operators[name] >= share - 1e-9
    # Contexts are guessed from the blocks in use: what they make of the steps on record is close.
    assert found.repriced == pytest.approx(1.0, abs=0.1)
    assert sum(found.over_time.values()) == pytest.approx(np.ones(len(found.edges_s) - 1))
    busy = sum(
        float((np.minimum(run.steps["end_s"][rows], 1e9) - run.steps["start_s"][rows]).sum())
        for rows in run.step_rows.values()
    )
    assert found.busy_s <= busy + 1e-9
    assert found.idle_s >= 0


def test_load_holds_until_the_next_step_and_ends_at_idle(run: RunFolder) -> None:
    for instance in run.instances:
        rows = run.step_rows[instance]
        x, y = load_series(run, instance, "running")
        assert (np.diff(x) >= 0).all()
        assert y[-1] == 0
        assert x[-1] == run.steps["end_s"][rows[-1]]
        for row in rows[:: max(len(rows) // 20, 1)]:
            middle = (run.steps["start_s"][row] + run.steps["end_s"][row]) / 2
            assert y[np.searchsorted(x, middle, side="right") - 1] == run.steps["running"][row]
    with pytest.raises(UnknownNameError, match="running"):
        load_series(run, 0, "runing")


def test_a_window_draws_what_lies_in_it(run: RunFolder) -> None:
    pytest.importorskip("plotly")
    end_s = float(run.steps["end_s"].max())
    window = (0.3 * end_s, 0.5 * end_s)
    alive = (run.requests["arrival_s"] <= window[1]) & (run.requests["finish_s"] >= window[0])
    lives = draw_run(run, "request_lives", window)
    drawn = {key for trace in lives.data for key in trace.text}
    assert drawn == set(run.requests["request_id"][alive].tolist())
    points = draw_run(run, "latencies_over_time", window).data[0]
    assert min(points.x) >= window[0]
    assert max(points.x) <= window[1]


def test_percentiles_of_intervals_are_exact() -> None:
    rng = np.random.default_rng(0)
    at, values = rng.uniform(0, 10, 500), rng.normal(size=500)
    counts = rng.integers(1, 4, 500)
    edges = np.linspace(0, 12, 7)
    found = binned_percentiles(at, values, edges, [0.5, 0.9, 1.0], counts=counts)
    for number in range(6):
        inside = (at >= edges[number]) & (at < edges[number + 1])
        many = np.sort(np.repeat(values[inside], counts[inside]))
        for row, share in enumerate((0.5, 0.9, 1.0)):
            if len(many):
                assert found[row, number] == many[int(np.ceil(share * len(many))) - 1]
            else:
                assert np.isnan(found[row, number])


def test_thinning_keeps_spikes() -> None:
    x = np.arange(100_000, dtype=np.float64)
    y = np.zeros(100_000)
    y[31_415], y[92_653] = 9.0, -7.0
    thin_x, thin_y = thin_series(x, y, 1000)
    assert len(thin_x) <= 1000
    assert {9.0, -7.0} <= set(thin_y.tolist())
    assert (np.diff(thin_x) > 0).all()
    values, shares = thin_distribution(np.arange(1.0, 10_001.0), 200)
    assert values[-1] == 10_000.0
    assert shares[-1] == 1.0
    assert values[np.searchsorted(shares, 0.999)] > 9_900


def test_pictures_have_a_bounded_number_of_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made("kv-pressure.yaml", tmp_path / "out", "workload.requests=80")
    whole = {draw.__name__: sum(len(trace.x) for trace in draw(run).data) for draw in FIGURES}
    assert max(whole.values()) <= life_figures.MOST_POINTS
    monkeypatch.setattr(life_figures, "MOST_POINTS", 200)
    lives = sum(len(trace.x) for trace in draw_run(run, "request_lives").data)
    assert 0 < lives <= 200 < whole["request_lives"]
