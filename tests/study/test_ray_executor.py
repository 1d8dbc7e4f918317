"""Sweeps on a Ray cluster of this machine: the same bytes as here, also if a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from simserve.study.executor import LocalExecutor
from simserve.study.points import Point, expand_points
from simserve.study.ray_executor import RayExecutor
from simserve.study.sweep import RESULTS, run_sweep
from simserve.study.sweep_file import read_sweep_file
from tests.study.test_sweep import BASE, SWEEP

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def executor() -> Iterator[RayExecutor]:
    made = RayExecutor(workers=2)
    yield made
    made.close()


@pytest.fixture
def points(tmp_path: Path) -> list[Point]:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return list(expand_points(read_sweep_file(tmp_path / "sweep.yaml"), tmp_path))


def test_ray_gives_the_bytes_of_local_processes_although_a_worker_is_killed(
    executor: RayExecutor, points: list[Point], tmp_path: Path
) -> None:
    killed: list[int] = []

    def progress(ended: int, total: int) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                busy = b"ray::run_task" in path.read_bytes()
            except OSError:
                continue
            if busy and not killed:
                killed.append(int(path.parent.name))
                os.kill(killed[0], signal.SIGKILL)

    run = run_sweep(points, tmp_path / "ray", executor, progress=progress)
    assert killed
    assert not run.failed
    run_sweep(points, tmp_path / "local", LocalExecutor(1))
    assert (tmp_path / "ray" / RESULTS).read_bytes() == (tmp_path / "local" / RESULTS).read_bytes()
    assert pq.read_table(tmp_path / "ray" / RESULTS)["status"].to_pylist() == ["done"] * 12


def test_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from simserve.errors import InputError

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match="cannot reach a Ray cluster at 'nowhere:1'"):
        RayExecutor("nowhere:1")
