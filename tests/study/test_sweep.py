"""Sweeps: which points there are, that each is run once, and that nothing is lost when something dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from simserve.cli.entry import app
from simserve.errors import InputError
from simserve.scenario.loader import load_scenario
from simserve.study.executor import LocalExecutor, Outcome, Task, run_task
from simserve.study.points import Point, expand_points, identify
from simserve.study.sweep import RESULTS, run_sweep
from simserve.study.sweep_file import SweepFile, read_sweep_file

BASE = """
model: llama-3.1-8b
workload: {arrivals: 20, prompt_tokens: 100, output_tokens: 10, requests: 30}
pools: h100-sxm
cost: {kind: constant, base_s: 0.01}
"""
SWEEP = """
base: base.yaml
axes:
  - {key: pools.0.replicas, range: {from: 1, to: 3}}
  - {keys: [workload.prompt_tokens, workload.output_tokens], values: [[100, 10], [50, 20]]}
seeds: 2
"""


class InOrder:
    """Runs tasks here, one after the other; stops as if interrupted after some."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.stop_after = stop_after
        self.ran: list[str] = []

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for task in tasks:
            if len(self.ran) == self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(task.identity)
            yield run_task(task)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


def points_of(folder: Path) -> list[Point]:
    return list(expand_points(read_sweep_file(folder / "sweep.yaml"), folder))


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
        ({"key": "seed", "log_range": {"from": 1, "to": 8, "count": 4}}, [1, 2, 4, 8]),
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
        ("base: b\naxis: []", "axes"),
        ("- 1", "expected a mapping"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_sweep_file(tmp_path / "s.yaml")
    assert "s.yaml:" in str(caught.value)


def test_a_wrong_setting_is_told_with_its_key(folder: Path) -> None:
    (folder / "sweep.yaml").write_text("base: base.yaml\naxes: [{key: pools.0.replica, values: [1]}]")
    with pytest.raises(InputError, match=r"pools\.0\.replica=1.*replicas"):
        points_of(folder)


def test_a_point_is_what_it_depends_on_and_not_where_it_lies(tmp_path: Path) -> None:
    def made(name: str, rows: str) -> str:
        home = tmp_path / name
        home.mkdir()
        (home / "t.csv").write_text(rows)
        text = BASE.replace(BASE.splitlines()[2], "workload: {trace: {path: t.csv}}")
        (home / "base.yaml").write_text(text)
        return identify(load_scenario(str(home / "base.yaml")))

    head = "arrival_s,prompt_tokens,output_tokens\n"
    one = made("one", head + "0,10,5\n")
    assert made("two", head + "0,10,5\n") == one
    assert made("three", head + "0,10,6\n") != one


def test_a_policys_source_is_part_of_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = "from simserve.cluster.routers import RoundRobin\n\n\nclass Mine(RoundRobin):\n    pass\n"
    (tmp_path / "my_router_of_sweeps.py").write_text(source)
    scenario = load_scenario(BASE + "router: {policy: 'my_router_of_sweeps:Mine'}\n")
    before = identify(scenario)
    (tmp_path / "my_router_of_sweeps.py").write_text(source + "# other\n")
    assert identify(scenario) != before


def test_a_stopped_sweep_goes_on_and_runs_nothing_twice(folder: Path) -> None:
    points, out = points_of(folder), folder / "out"
    first = InOrder(stop_after=5)
    run = run_sweep(points, out, first)
    assert run.stopped
    table = pq.read_table(out / RESULTS)
    assert table["status"].to_pylist() == ["done"] * 5 + ["missing"] * 7
    second = InOrder()
    run = run_sweep(points, out, second)
    assert run.reused == 5
    assert not set(first.ran) & set(second.ran)
    assert len(first.ran) + len(second.ran) == 12
    assert pq.read_table(out / RESULTS)["status"].to_pylist() == ["done"] * 12
    assert run_sweep(points, out, third := InOrder()).reused == 12
    assert third.ran == []


def test_processes_and_this_one_give_the_same_bytes(folder: Path) -> None:
    points = points_of(folder)
    run_sweep(points, folder / "a", InOrder())
    run_sweep(list(reversed(points)), folder / "b", LocalExecutor(2))
    run_sweep(points, folder / "b", InOrder())  # the table of the points in order, from the same results
    assert (folder / "a" / RESULTS).read_bytes() == (folder / "b" / RESULTS).read_bytes()
    for point in points:
        for name in ("summary.json", "requests.parquet"):
            one, two = (folder / side / "points" / point.identity / name for side in "ab")
            assert one.read_bytes() == two.read_bytes()


def test_a_point_that_fails_is_recorded_and_tried_again(folder: Path) -> None:
    text = "base: base.yaml\naxes: [{key: model, values: [llama-3.1-8b, llama-3.1-405b]}]"
    (folder / "sweep.yaml").write_text(text)
    points = points_of(folder)
    run = run_sweep(points, folder / "out", InOrder())
    assert list(run.failed) == [points[1].identity]
    rows = pq.read_table(folder / "out" / RESULTS).to_pylist()
    assert [row["status"] for row in rows] == ["done", "failed"]
    assert "fit" in rows[1]["reason"]
    again = InOrder()
    run_sweep(points, folder / "out", again)
    assert again.ran == [points[1].identity]


def test_a_process_that_dies_takes_nothing_with_it(folder: Path) -> None:
    """Workers are killed as soon as the first result is there."""
    points, executor = points_of(folder), LocalExecutor(2)
    killed: list[int] = []

    def progress(ended: int, total: int) -> None:
        if not killed:
            children = subprocess.run(
                ["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=False
            ).stdout.split()
            for child in map(int, children):
                command = Path(f"/proc/{child}/cmdline")
                if command.exists() and b"spawn_main" in command.read_bytes():
                    os.kill(child, signal.SIGKILL)
                    killed.append(child)

    run = run_sweep(points, folder / "out", executor, progress=progress)
    assert killed
    assert not run.failed
    assert pq.read_table(folder / "out" / RESULTS)["status"].to_pylist() == ["done"] * 12


def test_a_killed_sweep_goes_on(folder: Path) -> None:
    """`kill -9` of the whole sweep: what has ended is there, and the next one does the rest."""
    big = SWEEP.replace("seeds: 2", "seeds: 20")
    (folder / "sweep.yaml").write_text(big)
    command = [sys.executable, "-m", "simserve", "sweep", str(folder / "sweep.yaml"), "--workers", "1"]
    command += ["--out", str(folder / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    points = folder / "out" / "points"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not points.is_dir() or len(list(points.iterdir())) < 3):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = [path.name for path in points.iterdir() if (path / "summary.json").is_file()]
    assert 0 < len(done) < 120
    executor = InOrder()
    run = run_sweep(points_of(folder), folder / "out", executor)
    assert run.reused >= len([name for name in done if not name.startswith(".")])
    assert not set(executor.ran) & set(done)
    assert set(pq.read_table(folder / "out" / RESULTS)["status"].to_pylist()) == {"done"}


def test_a_folder_with_something_else_is_refused(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds no sweep"):
        run_sweep(points_of(folder), folder / "out", InOrder())


def test_the_command_line(folder: Path) -> None:
    arguments = ["sweep", str(folder / "sweep.yaml"), "--out", str(folder / "out")]
    listed = CliRunner().invoke(app, [*arguments, "--dry-run", "--json"])
    assert len(json.loads(listed.stdout)["points"]) == 12
    assert not (folder / "out").exists()
    done = CliRunner().invoke(app, [*arguments, "--json", "--workers", "1"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["reused"] == 0
    assert [row["completed"] for row in content["results"]] == [30] * 12
    wrong = CliRunner().invoke(app, [*arguments, "--address", "x"])
    assert "ray" in str(wrong.exception)
