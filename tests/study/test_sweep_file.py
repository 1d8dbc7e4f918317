"""A sweep's file: its axes become points, and what is wrong in it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from simserve.errors import InputError
from simserve.study.sweep import RESULTS, run_sweep
from simserve.study.sweep_file import SweepFile, read_sweep_file
from tests.study.executors import InOrder
from tests.study.sweeps import BASE, points_of


def test_axes_make_a_grid_and_keys_of_one_axis_move_together(folder: Path) -> None:
    points = points_of(folder)
    assert [point.number for point in points] == list(range(12))
    assert [point.seed for point in points] == [0, 1] * 6
    found = [tuple(point.settings.values()) for point in points[::2]]
    assert found == [(n, *lengths) for n in (1, 2, 3) for lengths in ((100, 10), (50, 20))]
    assert len({point.identity for point in points}) == 12


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ({"key": "seed", "range": {"from": 1, "to": 4}}, [1, 2, 3, 4]),
        ({"key": "seed", "range": {"from": 0, "to": 1, "step": 0.25}}, [0, 0.25, 0.5, 0.75, 1]),
        ({"key": "seed", "range": {"from": 0, "to": 10, "count": 3}}, [0, 5, 10]),
        ({"key": "seed", "range": {"from": 10, "to": 0, "count": 3}}, [10, 5, 0]),
        ({"key": "seed", "log_range": {"from": 1, "to": 8, "count": 4}}, [1, 2, 4, 8]),
        ({"key": "seed", "log_range": {"from": 1, "to": 8, "count": 6, "round": True}}, [1, 2, 3, 5, 8]),
    ],
)
def test_ranges(axis: dict[str, object], values: list[float]) -> None:
    sweep = SweepFile.model_validate({"base": "b", "axes": [axis]})
    assert [value for (value,) in sweep.axes[0].settings()] == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "base: b\naxes: [{key: a, values: [1], range: {from: 1, to: 2}}]",
            "one of values, range, log_range",
        ),
        ("base: b\naxes: [{keys: [a, b], values: [[1, 2], [3]]}]", "2 entries each"),
        ("base: b\naxes: [{key: a, log_range: {from: 0, to: 2, count: 3}}]", "above 0, and a count"),
        ("base: b\naxes: [{key: a, values: [1]}, {key: a, values: [2]}]", "a is on two axes"),
        ("base: b\naxes: [{key: a, range: {from: 4, to: 1}}]", "from 4 to 1 has no values"),
        ("base: b\naxes: [{key: a, range: {from: 1, to: 4, step: 1, count: 2}}]", "one of step and count"),
        ("base: b\naxes: [{key: a, log_range: {from: 1, to: 4, step: 1}}]", "a count .no step."),
        ("base: b\naxes: [{key: seed, values: [1, 2]}]\nseeds: 2", "seed is an axis; expected no seeds"),
        (
            "base: b\naxes: [{key: a.b, values: [1]}]\noverrides: [a.b=2]",
            "a.b is an axis; expected no override",
        ),
        ("base: b\naxis: []", "axes"),
        ("- 1", "expected a mapping"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_sweep_file(tmp_path / "s.yaml")
    assert "s.yaml:" in str(caught.value)


def test_a_broken_number_of_things_says_how_it_becomes_whole(folder: Path) -> None:
    axis = "axes: [{key: pools.0.engine.max_num_seqs, log_range: {from: 4, to: 64, count: 4}}]"
    (folder / "sweep.yaml").write_text(f"base: base.yaml\n{axis}")
    with pytest.raises(InputError, match=r"expected a whole number, got 10\.0.*with round: true"):
        points_of(folder)
    (folder / "sweep.yaml").write_text(
        f"base: base.yaml\n{axis.replace('count: 4', 'count: 4, round: true')}"
    )
    assert [point.settings["pools.0.engine.max_num_seqs"] for point in points_of(folder)] == [4, 10, 25, 64]


def test_traces_and_policies_are_axes_too(folder: Path) -> None:
    head = "arrival_s,prompt_tokens,output_tokens\n"
    for name, rows in (("a.csv", "0,10,5\n"), ("b.csv", "0,10,5\n1,20,3\n")):
        (folder / name).write_text(head + rows)
    (folder / "base.yaml").write_text(BASE.replace(BASE.splitlines()[2], "workload: {trace: {path: a.csv}}"))
    axes = [
        {"key": "workload.trace.path", "values": ["a.csv", "b.csv"]},
        {"key": "router.policy", "values": ["round_robin", "random"]},
    ]
    (folder / "sweep.yaml").write_text(json.dumps({"base": "base.yaml", "axes": axes}))
    run_sweep(points_of(folder), folder / "out", InOrder())
    rows = pq.read_table(folder / "out" / RESULTS).to_pylist()
    assert [row["completed"] for row in rows] == [1, 1, 2, 2]
    assert [row["router.policy"] for row in rows] == ["round_robin", "random"] * 2


def test_a_wrong_setting_is_told_with_its_key(folder: Path) -> None:
    (folder / "sweep.yaml").write_text("base: base.yaml\naxes: [{key: pools.0.replica, values: [1]}]")
    with pytest.raises(InputError, match=r"pools\.0\.replica=1.*replicas"):
        points_of(folder)
