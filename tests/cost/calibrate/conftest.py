"""Synthetic GEMM tables, made by the form itself with known constants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernels.gemm import GemmForm, gemm_shapes
from simserve.scenario.catalog import load_hardware

TRUE_CONSTANTS = {parameter.name: parameter.start for parameter in GemmForm.parameters} | {
    "compute_efficiency": 0.7,
    "bandwidth_efficiency": 0.75,
    "overhead_s": 4e-6,
}
SIZES = (256, 768, 1024, 2048, 3072, 4096, 6144, 8192, 12288)
TOKENS = (1, 8, 17, 64, 130, 256, 512, 1000, 2048, 8192)

MakeTable = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def gemm_table() -> MakeTable:
    """`gemm_table(hardware="h100_sxm", framework="vllm", dtype="bfloat16", sizes=SIZES)`."""

    def make(
        hardware: str = "h100_sxm",
        framework: str = "vllm",
        dtype: str = "bfloat16",
        sizes: tuple[int, ...] = SIZES,
    ) -> pd.DataFrame:
        grid = np.array([(m, n, k) for n in sizes for k in sizes for m in TOKENS], dtype=np.float64)
        m, n, k = grid.T
        device = describe_device(load_hardware("h100-sxm"), "bfloat16")
        seconds = GemmForm().seconds(gemm_shapes(m, n, k, dtype), TRUE_CONSTANTS, device, warm=True)
        columns = {"hardware": hardware, "framework": framework, "dtype": dtype, "op": "gemm"}
        return pd.DataFrame({**columns, "M": m, "N": n, "K": k, "time_us": seconds * 1e6})

    return make


@pytest.fixture
def gemm_file(tmp_path: Path, gemm_table: MakeTable) -> Path:
    """A folder's `gemm.csv` with the rows of one accelerator."""
    path = tmp_path / "tables" / "gemm.csv"
    path.parent.mkdir()
    gemm_table().to_csv(path, index=False)
    return path
