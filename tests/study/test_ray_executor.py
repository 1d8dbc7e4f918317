"""Studies on a Ray cluster of this machine: the same as here, also if a worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from simserve.errors import InputError
from simserve.scenario.loader import load_scenario
from simserve.study.capacity import find_capacities
from simserve.study.points import expand_points
from simserve.study.ray_executor import RayExecutor
from simserve.study.slo_terms import parse_slo
from simserve.study.sweep import RESULTS, run_sweep
from simserve.study.sweep_file import read_sweep_file
from tests.study.executors import InOrder
from tests.study.sweeps import BASE, SWEEP

# Not imported here: that takes a second, in every process that collects tests.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray has no wheel for this Python")


@pytest.fixture
def executor() -> Iterator[RayExecutor]:
    made = RayExecutor(workers=2)
    yield made
    made.close()


def test_a_cluster_of_two_workers(executor: RayExecutor, tmp_path: Path) -> None:
    """One test, since a cluster takes seconds to start."""
    sweep_gives_the_same_bytes_although_a_worker_is_killed(executor, tmp_path)
    search_finds_the_same(executor)
    texts = iter(["1 apple"])
    with pytest.raises(InputError, match="apple"):
        list(executor.run(parse_slo, lambda: next(texts, None)))


def sweep_gives_the_same_bytes_although_a_worker_is_killed(executor: RayExecutor, folder: Path) -> None:
    (folder / "base.yaml").write_text(BASE)
    (folder / "sweep.yaml").write_text(SWEEP)
    points = list(expand_points(read_sweep_file(folder / "sweep.yaml"), folder))
    killed: list[int] = []

    def progress(ended: int, total: int) -> None:
        for process, title in processes_below(os.getpid()):
            if "ray::run_task" in title and not killed:
                killed.append(process)
                os.kill(process, signal.SIGKILL)

    run = run_sweep(points, folder / "ray", executor, progress=progress)
    assert killed
    assert not run.failed
    run_sweep(points, folder / "here", InOrder())
    assert (folder / "ray" / RESULTS).read_bytes() == (folder / "here" / RESULTS).read_bytes()
    assert pq.read_table(folder / "ray" / RESULTS)["status"].to_pylist() == ["done"] * 12
    for point in points:
        for name in ("summary.json", "requests.parquet", "scenario.yaml"):
            ours, theirs = (folder / side / "points" / point.identity / name for side in ("here", "ray"))
            assert ours.read_bytes() == theirs.read_bytes()


def processes_below(ancestor: int) -> list[tuple[int, str]]:
    """Id and title of each process that `ancestor` started, or one of those: others may run Ray here too."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name before the state may hold anything, brackets and blanks included.
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            titles[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(state[1])

    def is_below(process: int) -> bool:
        parent = parents.get(process, 0)
        return parent == ancestor or (parent > 0 and is_below(parent))

    return [(process, titles[process]) for process in sorted(parents) if is_below(process)]


def test_only_processes_of_ones_own_are_found() -> None:
    # One that has left its parent, as a cluster's that is not ours, and one that has not.
    away = subprocess.run(
        ["sh", "-c", "sleep 20 >/dev/null & echo $!"], stdout=subprocess.PIPE, text=True, check=True
    )
    stranger = int(away.stdout)
    with subprocess.Popen(
        ["sh", "-c", "sleep 20 >/dev/null & echo $!; wait"], stdout=subprocess.PIPE, text=True
    ) as own:
        assert own.stdout is not None
        grandchild = int(own.stdout.readline())
        found = dict(processes_below(os.getpid()))
        for process in (stranger, grandchild):
            os.kill(process, signal.SIGKILL)
    assert own.pid in found
    assert "sleep 20" in found[grandchild]
    assert stranger not in found


def search_finds_the_same(executor: RayExecutor) -> None:
    scenarios = [load_scenario(BASE, [f"seed={seed}"]) for seed in (0, 1)]
    slo = parse_slo("ttft_p90<=50ms")
    alone = find_capacities(scenarios, slo, tolerance=0.2)
    assert find_capacities(scenarios, slo, executor, tolerance=0.2) == alone


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "localhost:first"])
def test_a_cluster_that_is_not_there_is_told_at_once(address: str) -> None:
    with pytest.raises(InputError, match=f"cannot reach a Ray cluster at '{address}'"):
        RayExecutor(address)
