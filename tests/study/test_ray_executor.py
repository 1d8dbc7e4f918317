"""Studies on a Ray cluster of this machine: the same as here, also if a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from simserve.errors import InputError
from simserve.scenario.loader import load_scenario
from simserve.study.capacity import find_capacities
from simserve.study.points import Point, expand_points
from simserve.study.ray_executor import RayExecutor
from simserve.study.slo_terms import parse_slo
from simserve.study.sweep import RESULTS, run_sweep
from simserve.study.sweep_file import read_sweep_file
from tests.study.executors import InOrder
from tests.study.test_sweep import BASE, SWEEP

ray = pytest.importorskip("ray", reason="Ray has no wheel for this Python")


@pytest.fixture(scope="module")
def executor() -> Iterator[RayExecutor]:
    try:
        made = RayExecutor(workers=2)
    except Exception as error:
        pytest.skip(f"Ray does not start here: {error}")
    yield made
    made.close()


@pytest.fixture
def points(tmp_path: Path) -> list[Point]:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return list(expand_points(read_sweep_file(tmp_path / "sweep.yaml"), tmp_path))


def test_ray_gives_the_bytes_of_this_process_although_a_worker_is_killed(
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
    run_sweep(points, tmp_path / "here", InOrder())
    assert (tmp_path / "ray" / RESULTS).read_bytes() == (tmp_path / "here" / RESULTS).read_bytes()
    assert pq.read_table(tmp_path / "ray" / RESULTS)["status"].to_pylist() == ["done"] * 12
    for point in points:
        for name in ("summary.json", "requests.parquet", "scenario.yaml"):
            ours, theirs = (tmp_path / side / "points" / point.identity / name for side in ("here", "ray"))
            assert ours.read_bytes() == theirs.read_bytes()


def test_a_search_finds_the_same_on_ray(executor: RayExecutor) -> None:
    scenarios = [load_scenario(BASE, [f"seed={seed}"]) for seed in (0, 1)]
    slo = parse_slo("ttft_p90<=50ms")
    assert find_capacities(scenarios, slo, executor, tolerance=0.2) == find_capacities(
        scenarios, slo, tolerance=0.2
    )


def test_what_a_call_raises_comes_back_as_it_is(executor: RayExecutor) -> None:
    texts = iter(["1 apple"])
    with pytest.raises(InputError, match="apple"):
        list(executor.run(parse_slo, lambda: next(texts, None)))


def test_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match="cannot reach a Ray cluster at 'nowhere:1'"):
        RayExecutor("nowhere:1")
