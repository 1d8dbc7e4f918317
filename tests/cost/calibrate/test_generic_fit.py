"""The generic tier: constants of all accelerators, each left out to state its error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from simserve.cost.calibrate.accelerator_fit import read_groups
from simserve.cost.calibrate.files import NamedFit
from simserve.cost.calibrate.generic_fit import GenericFits
from simserve.scenario.calibrations import find_accelerator

MakeTable = Callable[..., pd.DataFrame]
SIZES = (1024, 4096, 8192)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory, gemm_table: MakeTable) -> dict[str, NamedFit]:
    """Generic fits by dtype, of two accelerators alike and a weight-only format of one of them."""
    folder: Path = tmp_path_factory.mktemp("tables")
    layers = gemm_table(hardware="h200_sxm", sizes=SIZES).assign(source="LLMServingSim-v1", time_us=1.0)
    tables = [
        gemm_table(sizes=SIZES),
        gemm_table(hardware="h200_sxm", sizes=SIZES),
        layers,
        layers.assign(hardware="h100_sxm"),
        gemm_table(dtype="int8_wo", sizes=SIZES),
    ]
    pd.concat(tables).to_parquet(folder / "gemm.parquet")
    generic = GenericFits()
    for group in read_groups(folder, find_accelerator):
        generic.add(group)
    found = list(generic.fit())
    assert len({(fit.dtype, fit.variant) for fit in found}) == len(found)
    return {fit.dtype: fit for fit in found}


def test_each_accelerator_is_left_out_in_turn(fits: dict[str, NamedFit]) -> None:
    fit = fits["bfloat16"]
    assert set(fit.left_out or ()) == {"h100-sxm", "h200-sxm"}
    assert fit.fit.error is not None
    assert min((fit.left_out or {}).values()) <= fit.fit.error.mape <= max((fit.left_out or {}).values())


def test_rows_that_tell_nothing_of_others_stay_out(fits: dict[str, NamedFit]) -> None:
    assert {fit.variant for fit in fits.values()} == {""}
    assert fits["bfloat16"].rows == 2 * 90


def test_a_dtype_of_one_accelerator_has_constants_and_no_error(fits: dict[str, NamedFit]) -> None:
    fit = fits["int8_wo"]
    assert fit.fit.constants
    assert fit.fit.error is None
    assert fit.left_out is None
