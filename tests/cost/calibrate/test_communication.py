"""Tables of collectives: spellings, variants, and sizes that were not fitted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from simserve.cost.calibrate.communication import CommunicationFamily, serving_variants
from simserve.cost.calibrate.tables import read_table
from simserve.cost.calibrate.validation import fit_group
from simserve.cost.fitted_kernel import describe_device
from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware

ROW = {
    "hardware": "h100_sxm", "framework": "nccl", "version": "2.27.3", "kernel": "NCCL", "dtype": "half",
    "op": "alltoall", "num_gpus": 8, "gpus_per_node": None, "bytes": 4096, "time_us": 12.0,
}  # fmt: skip


def rows_of(**changed: object) -> pd.DataFrame:
    return CommunicationFamily().rows("comm", pd.DataFrame([{**ROW, **changed}]))


def test_a_row_says_who_talks() -> None:
    row = rows_of().iloc[0]
    assert (row["op"], row["variant"]) == ("comm/alltoall/NCCL", "all_to_all/NCCL/2.27.3")
    assert (row["dtype"], row["shape"], row["across"]) == ("float16", "4096", 0.0)
    assert rows_of(gpus_per_node=4).iloc[0]["variant"] == "all_to_all/NCCL/2.27.3/across"
    assert rows_of(gpus_per_node=8).iloc[0]["across"] == 0.0
    assert rows_of(bytes=0).iloc[0]["bytes"] == 1.0


def test_wrong_rows_are_named() -> None:
    with pytest.raises(InputError, match="all_reduce"):
        rows_of(op="allreduce")
    with pytest.raises(InputError, match="num_gpus: expected a number of at least 2"):
        rows_of(num_gpus=1)


def test_serving_prefers_captured_kernels_and_new_versions() -> None:
    fitted = {
        "all_reduce/NCCL/2.9.1", "all_reduce/NCCL/2.27.3", "all_reduce/vLLM_custom_graph/0.24.0",
        "all_reduce/nccl/2024/across", "send/nccl/2024",
    }  # fmt: skip
    names = serving_variants("all_reduce", fitted)
    assert names == ["all_reduce/vLLM_custom_graph/0.24.0", "all_reduce/NCCL/2.27.3", "all_reduce/NCCL/2.9.1"]
    assert serving_variants("all_reduce", fitted, across=True) == ["all_reduce/nccl/2024/across"]
    unknown = CommunicationFamily().alternatives("all_reduce/NCCL/2.30.0", fitted)
    assert unknown[:2] == ["all_reduce/NCCL/2.27.3", "all_reduce/NCCL/2.9.1"]


@pytest.mark.parametrize("hardware", ["h100_sxm", "h200_sxm", "gb200"])
def test_all_reduces_of_sizes_not_fitted_are_within_the_target(data_dir: Path, hardware: str) -> None:
    table = read_table(data_dir / "kernels" / "comm.parquet").frame
    mine = (table["hardware"] == hardware) & (table["kernel"] == "vLLM_custom_graph")
    family = CommunicationFamily()
    rows = family.rows("comm", table[mine].reset_index(drop=True))
    rows = rows[rows["variant"] == serving_variants("all_reduce", set(rows["variant"]))[0]]
    device = describe_device(load_hardware(hardware), "bfloat16")
    error = fit_group(family, str(rows["variant"].iloc[0]), rows, device).error
    assert error is not None
    assert error.mape < 8.0


def test_an_engine_runs_the_all_reduce_of_its_own_release() -> None:
    fitted = {f"all_reduce/vLLM_custom_graph/{version}" for version in ("0.14.0", "0.19.0", "0.24.0")}
    fitted |= {"all_reduce/NCCL/2.27.3", "all_reduce/NCCL/2.29.2"}

    def versions(engine_version: str) -> list[str]:
        names = serving_variants("all_reduce", fitted, engine_version=engine_version)
        assert names[3:] == ["all_reduce/NCCL/2.29.2", "all_reduce/NCCL/2.27.3"]
        return [name.rpartition("/")[2] for name in names[:3]]

    assert versions("") == ["0.24.0", "0.19.0", "0.14.0"]
    assert versions("0.19") == ["0.19.0", "0.14.0", "0.24.0"]
    assert versions("0.23") == ["0.19.0", "0.14.0", "0.24.0"]
    assert versions("0.11") == ["0.14.0", "0.19.0", "0.24.0"]
