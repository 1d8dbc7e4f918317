"""Sweeps: each point is run once, and nothing is lost when something dies."""

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
from simserve.errors import InputError
from simserve.study import sweep, sweep_lock
from simserve.study.executor import LocalExecutor
from simserve.study.point_task import Task, failure_path, record_failure
from simserve.study.sweep import RESULTS, SweepRun, run_sweep, write_results
from tests.study.executors import InOrder
from tests.study.sweeps import ROUTER, SWEEP, points_of
from tests.study.test_executor import of_session


def ran(executor: InOrder) -> list[str]:
    return [task.identity for task in executor.called if isinstance(task, Task)]


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
