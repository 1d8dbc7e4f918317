"""Where the time of steps went: all parts add up to the time on record, and the folder alone tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simserve.data_files import find_file
from simserve.errors import InputError
from simserve.metrics.time_parts import OPERATORS, SPLITS
from simserve.metrics.writer import TIME_PARTS
from simserve.report.run_folder import RunFolder
from simserve.report.time_parts import split_time
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate

SCENARIO = """
model: llama-3.1-8b
workload: {requests: 40, arrivals: {rate_per_s: 20}, prompt_tokens: 200, output_tokens: 30}
pools:
  - hardware: %s
    replicas: 2
    engine: {kind: "%s"}
"""


def ran(folder: Path, *, hardware: str = "h100-sxm", kind: str = "vllm") -> RunFolder:
    simulate(load_scenario(SCENARIO % (hardware, kind))).write(folder)
    return RunFolder.read(folder)


def test_the_parts_of_each_split_are_the_busy_time(tmp_path: Path) -> None:
    run = ran(tmp_path / "out")
    result = simulate(load_scenario(SCENARIO % ("h100-sxm", "vllm")))
    table = result.time_parts_table()
    assert table is not None
    found = table.to_pydict()
    busy_s = float((run.steps["end_s"] - run.steps["start_s"]).sum())
    split, part, seconds = (np.array(found[name]) for name in ("split", "part", "seconds"))
    for name in ("operators", "bounds", "phases"):
        assert seconds[split == name].sum() == pytest.approx(busy_s)
        assert set(part[split == name]) <= set(SPLITS[name])
    # In an interval the instances cannot be busy for longer than it is.
    for start_s, end_s in sorted(set(zip(found["start_s"], found["end_s"], strict=True))):
        here = (np.array(found["start_s"]) == start_s) & (split == "phases")
        assert seconds[here].sum() <= 2 * (end_s - start_s) + 1e-9
    sample = {name: seconds[part == name].sum() for name in SPLITS["sample"]}
    assert sample["priced again"] == pytest.approx(sample["on record"], rel=0.1)


def test_the_folder_alone_tells(tmp_path: Path) -> None:
    """What the run was priced with may be gone, and a class of the user's is not needed again."""
    hardware = tmp_path / "mine.yaml"
    hardware.write_bytes(find_file("hardware/h100-sxm.yaml").read_bytes())
    kind = "simserve.scheduler.sarathi:SarathiScheduler"
    run = ran(tmp_path / "out", hardware=str(hardware), kind=kind)
    before = split_time(run)
    hardware.unlink()
    after = split_time(RunFolder.read(run.path))
    assert after.operators == before.operators
    assert after.operators["GEMMs"] > 0.5
    assert set(after.operators) <= set(OPERATORS)


def test_a_folder_of_an_earlier_version_says_so_without_paths(tmp_path: Path) -> None:
    run = ran(tmp_path / "out")
    (run.path / TIME_PARTS).unlink()
    with pytest.raises(InputError, match=r"no time_parts.parquet: .* run its scenario again") as told:
        split_time(run)
    assert str(tmp_path) not in str(told.value)
