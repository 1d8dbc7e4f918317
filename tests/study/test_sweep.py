"""Sweeps: which points there are, that each is run once, and that nothing is lost when something dies."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from simserve.cli.entry import app
from simserve.data_files import data_folder
from simserve.errors import InputError
from simserve.scenario.loader import load_scenario
from simserve.study import sweep, sweep_lock
from simserve.study.executor import LocalExecutor
from simserve.study.point_task import Task, failure_path, record_failure
from simserve.study.points import Point, expand_points, identify
from simserve.study.policy_source import hash_sources
from simserve.study.sweep import RESULTS, SweepRun, run_sweep, write_results
from simserve.study.sweep_file import SweepFile, read_sweep_file
from tests.study.executors import InOrder
from tests.study.test_executor import of_session

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


def points_of(folder: Path) -> list[Point]:
    return list(expand_points(read_sweep_file(folder / "sweep.yaml"), folder))


def ran(executor: InOrder) -> list[str]:
    return [task.identity for task in executor.called if isinstance(task, Task)]


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


ROUTER = "from simserve.cluster.routers import RoundRobin\n\n\nclass {name}(RoundRobin):\n    pass\n"


def test_a_policys_source_is_part_of_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    base, mine = tmp_path / "base_of_sweeps.py", tmp_path / "router_of_sweeps.py"
    base.write_text(ROUTER.format(name="Base"))
    mine.write_text("from base_of_sweeps import Base\n\n\nclass Mine(Base):\n    pass\n")
    scenario = load_scenario(BASE + "router: {policy: 'router_of_sweeps:Mine'}\n")
    found = [identify(scenario)]
    for file in (mine, base):
        file.write_text(file.read_text() + "# other\n")
        found.append(identify(scenario))
    assert len(set(found)) == 3
    assert identify(scenario) == found[-1]


def test_what_a_policy_imports_is_part_of_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions, constants, packages, whatever they import in turn, and imports inside functions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rules_of_sweeps").mkdir()
    sources = {
        "policy_of_sweeps.py": "import json\nimport numpy\nfrom limits_of_sweeps import LIMIT\n"
        "from rules_of_sweeps import rule\n\nclass Mine:\n    limit = LIMIT, rule, json, numpy\n",
        "limits_of_sweeps.py": "LIMIT = 3\n",
        "rules_of_sweeps/__init__.py": "from .rule import rule\n",
        "rules_of_sweeps/rule.py": "def rule():\n    import late_of_sweeps as late\n    return late\n",
        "late_of_sweeps.py": "import policy_of_sweeps\n",
        "other_of_sweeps.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    found = []
    for name in (None, *sources):
        if name is not None:
            (tmp_path / name).write_text(sources[name] + "# other\n")
        found.append(hash_sources(["policy_of_sweeps:Mine"])["policy_of_sweeps:Mine"])
    assert len(set(found)) == len(sources)
    # What nothing imports changes nothing.
    assert found[-1] == found[-2]


def test_policies_of_every_kind_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not routers alone: whatever names a class."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "length_of_sweeps.py"
    file.write_text("class Mine:\n    pass\n")
    assert list(hash_sources(["vllm", "a:b", "length_of_sweeps:Mine", "12:30"])) == ["length_of_sweeps:Mine"]
    before = hash_sources(["length_of_sweeps:Mine"])
    file.write_text("class Mine:\n    more = 1\n")
    assert hash_sources(["length_of_sweeps:Mine"]) != before


def test_a_models_config_is_part_of_a_point_and_its_path_is_not(tmp_path: Path) -> None:
    config = json.loads((data_folder("models") / "llama-3.1-8b.json").read_text())

    def made(home: str, layers: int) -> str:
        folder = tmp_path / home / "model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
        (tmp_path / home / "base.yaml").write_text(BASE.replace("llama-3.1-8b", "model"))
        return identify(load_scenario(str(tmp_path / home / "base.yaml")))

    assert made("one", 32) == made("two", 32) != made("one", 16)


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
    assert not set(ran(first)) & set(ran(second))
    assert len(ran(first)) + len(ran(second)) == 12
    assert pq.read_table(out / RESULTS)["status"].to_pylist() == ["done"] * 12
    assert run_sweep(points, out, third := InOrder()).reused == 12
    assert ran(third) == []


def test_the_table_is_there_while_points_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_TABLE_EVERY_S", 0.0)
    monkeypatch.setattr(sweep, "_TABLE_SHARE", 1e9)
    seen = []

    def progress(ended: int, total: int) -> None:
        statuses = pq.read_table(folder / "out" / RESULTS)["status"].to_pylist()
        seen.append(
            (statuses.count("done"), statuses.count("missing"), sweep_lock.is_sweeping(folder / "out"))
        )

    run_sweep(points_of(folder), folder / "out", InOrder(), progress=progress)
    assert seen == [(ended, 12 - ended, True) for ended in range(1, 13)]
    assert not sweep_lock.is_sweeping(folder / "out")
    assert not sweep_lock.is_sweeping(folder)


def test_processes_and_this_one_give_the_same_bytes(folder: Path) -> None:
    points = points_of(folder)
    run_sweep(points, folder / "a", InOrder())
    run_sweep(list(reversed(points)), folder / "b", LocalExecutor(1))
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
    assert ran(again) == [points[1].identity]


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("raise KeyError('seat')", "KeyError: 'seat'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise MemoryError", "more memory than this machine has|MemoryError"),
    ],
)
def test_a_policy_that_raises_fails_its_own_point_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, act: str, reason: str
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    name = f"router_that_raises_{len(act)}"
    text = ROUTER.format(name="Bad").replace("pass", f"def choose(self, *_):\n        {act}")
    (folder / f"{name}.py").write_text(text)
    axes = [{"key": "router.policy", "values": [f"{name}:Bad", "round_robin"]}]
    (folder / "sweep.yaml").write_text(json.dumps({"base": "base.yaml", "axes": axes}))
    run = run_sweep(points_of(folder), folder / "out", InOrder())
    (told,) = run.failed.values()
    assert re.search(reason, told)
    assert f"{name}.py:6" in told or "memory" in told
    rows = pq.read_table(folder / "out" / RESULTS).to_pylist()
    assert [(row["status"], row["reason"]) for row in rows] == [("failed", told), ("done", "")]


def test_what_a_power_cut_leaves_is_run_again(folder: Path) -> None:
    """Half a summary, half a table, half a reason: none of them counts, and none of them is in the way."""
    points, out = points_of(folder), folder / "out"
    whole = run_sweep(points, out, InOrder())
    table = (out / RESULTS).read_bytes()
    for point, name in zip(points, ("summary.json", "requests.parquet"), strict=False):
        path = whole.point_folder(point) / name
        path.write_bytes(path.read_bytes()[:-20])
    failure_path(whole.point_folder(points[1])).write_text("{")
    run = run_sweep(points, out, again := InOrder())
    assert ran(again) == [point.identity for point in points[:2]]
    assert not run.failed
    assert (out / RESULTS).read_bytes() == table


def test_a_table_that_cannot_be_written_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fill)
    with pytest.raises(InputError, match=r"results.parquet: cannot be written: No space left"):
        write_results(SweepRun([], folder))
    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(InputError, match=r"x.failed.json: cannot be written: No space left"):
        record_failure(folder / "x", "why")


def test_a_process_that_dies_takes_nothing_with_it(folder: Path) -> None:
    """The worker is killed as soon as the first result is there."""
    points, executor = points_of(folder), LocalExecutor(1)
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


def begin(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a big sweep in a session of its own, and return once it has results."""
    (folder / "sweep.yaml").write_text(SWEEP.replace("seeds: 2", "seeds: 6"))
    command = [sys.executable, "-m", "simserve", "sweep", str(folder / "sweep.yaml"), "--workers", "1"]
    command += ["--out", str(folder / "out"), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(done_in(folder)) < 3:
        time.sleep(0.02)
    return process


def done_in(folder: Path) -> list[str]:
    return [path.parent.name for path in (folder / "out" / "points").glob("[!.]*/summary.json")]


def go_on(folder: Path, done: list[str]) -> None:
    """Run the rest: nothing twice, and nothing is missing."""
    assert 0 < len(done) < 36
    executor = InOrder()
    run = run_sweep(points_of(folder), folder / "out", executor)
    assert run.reused == len(done)
    assert not set(ran(executor)) & set(done)
    assert set(pq.read_table(folder / "out" / RESULTS)["status"].to_pylist()) == {"done"}
    assert not list((folder / "out" / "points").glob(".*"))


def test_a_killed_sweep_goes_on(folder: Path) -> None:
    """`kill -9` of the sweep alone: its process ends with it, and the next sweep does the rest.

    As long as it is at work nobody else may be, or points would run twice.
    """
    process = begin(folder)
    try:
        with pytest.raises(InputError, match="another sweep is at work"):
            run_sweep(points_of(folder), folder / "out", InOrder())
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 20
    while of_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    go_on(folder, done_in(folder))


def test_ctrl_c_leaves_no_half_run(folder: Path) -> None:
    """Ctrl-C goes to all processes at once; those that simulate must not write what they have by then."""
    process = begin(folder)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 1
    done = done_in(folder)
    for identity in done:
        summary = json.loads((folder / "out" / "points" / identity / "summary.json").read_text())
        assert (summary["partial"], summary["completed"]) == (False, 30)
    assert pq.read_table(folder / "out" / RESULTS)["status"].to_pylist().count("done") == len(done)
    go_on(folder, done)


def test_the_table_tells_what_a_points_accelerators_cost(folder: Path) -> None:
    (folder / "sweep.yaml").write_text("base: base.yaml\naxes: [{key: pools.0.replicas, values: [1, 3]}]")
    prices = {"h100-sxm": 2.0}
    for known, expected in (({}, [None, None]), (prices, [2.0, 6.0])):
        run_sweep(points_of(folder), folder / "out", InOrder(), prices=known)
        rows = pq.read_table(folder / "out" / RESULTS).to_pylist()
        assert [row["usd_per_hour"] for row in rows] == expected
    schema = pq.read_schema(folder / "out" / RESULTS)
    # Nobody knows this accelerator's power: a figure without values.
    assert str(schema.field("energy_j").type) == "double"
    assert not any(str(field.type) == "null" for field in schema)
    assert [(row["hardware"], row["accelerators"]) for row in rows] == [("h100-sxm", 1), ("h100-sxm", 3)]
    for row in rows:
        each = row["output_throughput"] / row["accelerators"]
        assert row["output_throughput_per_accelerator"] == pytest.approx(each)
        assert row["output_tokens_per_usd"] == pytest.approx(each * 3600 / 2.0)


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
