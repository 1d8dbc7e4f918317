"""Tables of the user's own: found by accelerator, met exactly in their shape, interpolated in their sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simserve.cost.calibrate.families import families_of
from simserve.cost.calibrate.fitting import shape_columns
from simserve.cost.calibrate.tables import read_table
from simserve.cost.measured.kernels import MeasuredCalibration
from simserve.cost.measured.tables import AXES, MeasuredTables, read_measured_tables
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware

GEMM = """\
hardware,framework,dtype,M,N,K,time_us
h100_sxm,torch,bfloat16,1,6144,4096,20
h100_sxm,torch,bfloat16,64,6144,4096,22
h100_sxm,torch,bfloat16,1024,6144,4096,66
h100_sxm,torch,fp8,64,6144,4096,14
a100_sxm,torch,bfloat16,64,6144,4096,40
"""


@pytest.fixture
def h100() -> Accelerator:
    return load_hardware("h100-sxm")


@pytest.fixture
def tables(tmp_path: Path, h100: Accelerator) -> MeasuredTables:
    (tmp_path / "gemm.csv").write_text(GEMM)
    return read_measured_tables([tmp_path], h100)


def gemm(m: list[float], n: float = 6144, k: float = 4096, dtype: str = "bfloat16") -> dict[str, np.ndarray]:
    from simserve.cost.kernels.gemm import gemm_shapes

    rows = np.array(m, dtype=np.float64)
    return dict(gemm_shapes(rows, np.full_like(rows, n), np.full_like(rows, k), dtype))


def test_only_rows_of_the_accelerator_are_used(tables: MeasuredTables) -> None:
    assert tables.rows == 4
    assert tables.name == "tables gemm.csv"


def test_measured_sizes_come_back_and_others_are_interpolated(tables: MeasuredTables) -> None:
    seconds = tables.seconds("gemm", "bfloat16", "", ("",), gemm([1, 64, 200, 1024, 2048]))
    assert seconds[[0, 1, 3]] == pytest.approx([20e-6, 22e-6, 66e-6])
    assert 22e-6 < seconds[2] < 66e-6
    assert np.isnan(seconds[4]), "beyond the largest size there is no measurement"


def test_another_shape_dtype_or_family_is_not_there(tables: MeasuredTables) -> None:
    assert np.isnan(tables.seconds("gemm", "bfloat16", "", ("",), gemm([64], n=4096))).all()
    assert np.isnan(tables.seconds("gemm", "int8", "", ("",), gemm([64], dtype="int8"))).all()
    assert np.isnan(tables.seconds("moe", "bfloat16", "", ("",), gemm([64]))).all()


def test_the_fitted_form_prices_what_was_not_measured(tables: MeasuredTables, h100: Accelerator) -> None:
    calibration = MeasuredCalibration(h100, [tables])
    plain = super(MeasuredCalibration, calibration).kernel("gemm", "bfloat16")
    kernel = calibration.kernel("gemm", "bfloat16")
    shapes = gemm([64, 4096])
    assert kernel.seconds(shapes)[0] == pytest.approx(22e-6)
    assert kernel.seconds(shapes)[1] == plain.seconds(shapes)[1]
    assert kernel.provenance(gemm([64])) == ("measured", "tables gemm.csv", None)
    assert kernel.provenance(gemm([4096]))[0] == plain.tier


def test_bfloat16_and_float16_stand_for_each_other(tables: MeasuredTables, h100: Accelerator) -> None:
    calibration = MeasuredCalibration(h100, [tables])
    shapes = gemm([64], dtype="float16")
    assert calibration.kernel("gemm", "float16").seconds(shapes)[0] == pytest.approx(22e-6)
    assert calibration.kernel("gemm", "fp8").seconds(gemm([64], dtype="fp8"))[0] == pytest.approx(14e-6)
    block = calibration.kernel("gemm", "fp8_block")
    assert block.provenance(gemm([64], dtype="fp8_block"))[0] != "measured"


def test_a_fused_quantise_pass_is_taken_out_of_measured_times(
    tables: MeasuredTables, h100: Accelerator
) -> None:
    """Measured fp8 GEMMs quantise their input first; in serving the kernel before does."""
    from simserve.cost.kernels.gemm import gemm_shapes

    kernel = MeasuredCalibration(h100, [tables]).kernel("gemm", "fp8")
    sizes = tuple(np.array([size]) for size in (64.0, 6144.0, 4096.0))
    whole = kernel.seconds(gemm_shapes(*sizes, "fp8"))
    fused = kernel.seconds(gemm_shapes(*sizes, "fp8", quantizes=False))
    assert whole == pytest.approx([14e-6])
    assert 0 < fused < whole


def test_tables_without_a_row_of_the_accelerator_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gemm.csv").write_text(GEMM)
    with pytest.raises(
        InputError, match="no row of l40s in the measured tables; they hold a100_sxm, h100_sxm"
    ):
        read_measured_tables([tmp_path], load_hardware("l40s"))


def test_a_table_of_no_family_is_refused_by_name_and_passed_over_in_a_folder(
    tmp_path: Path, tables: MeasuredTables, h100: Accelerator
) -> None:
    (tmp_path / "gems.csv").write_text(GEMM)
    assert read_measured_tables([tmp_path], h100).rows == tables.rows
    with pytest.raises(InputError, match="no kernel family reads a table named 'gems'"):
        read_measured_tables([tmp_path / "gems.csv"], h100)


def test_a_wrong_cell_is_named(tmp_path: Path, h100: Accelerator) -> None:
    (tmp_path / "gemm.csv").write_text(GEMM.replace("64,6144,4096,22", "64,6144,4096,fast"))
    with pytest.raises(InputError, match=r"gemm.csv:3: time_us: expected a number above 0, got 'fast'"):
        read_measured_tables([tmp_path], h100)


def test_the_preferred_framework_wins(tmp_path: Path, h100: Accelerator) -> None:
    text = GEMM + "h100_sxm,vllm,bfloat16,64,6144,4096,30\n"
    (tmp_path / "gemm.csv").write_text(text)
    found = read_measured_tables([tmp_path], h100).seconds("gemm", "bfloat16", "", ("",), gemm([64]))
    assert found == pytest.approx([30e-6])


MACHINE = "hardware,framework,kernel,dtype,kv_dtype"
H100 = "h100_sxm,vllm,,bfloat16,bfloat16"
TABLES = {
    "attn_decode": (
        "batch,kv_len,heads,kv_heads,head_dim,window",
        ["8,1024,32,8,128,0", "8,4096,32,8,128,0"],
    ),
    "attn_prefill": (
        "batch,q_len,kv_prefix,heads,kv_heads,head_dim,window",
        ["1,512,0,32,8,128,0", "1,2048,0,32,8,128,0"],
    ),
    "attn_mixed": (
        "prefill_chunk,kv_prefill,n_decode,kv_decode,heads,kv_heads,head_dim",
        ["512,0,8,1024,32,8,128", "2048,0,8,1024,32,8,128"],
    ),
    "mla": ("phase,batch,q_len,kv_prefix,heads,tp", ["decode,8,1,1023,16,8", "decode,8,1,4095,16,8"]),
    "moe": (
        "num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,moe_ep_size,distribution",
        ["8,2048,768,8,128,1,1,balanced", "128,2048,768,8,128,1,1,balanced"],
    ),
    "elementwise": ("op,tokens,width", ["layernorm,64,4096", "layernorm,1024,4096"]),
    "comm": ("op,num_gpus,bytes", ["all_reduce,8,65536", "all_reduce,8,1048576"]),
}


@pytest.mark.parametrize("stem", sorted(TABLES))
def test_every_table_gives_back_its_rows(stem: str, tmp_path: Path, h100: Accelerator) -> None:
    columns, rows = TABLES[stem]
    lines = [f"{H100},{row},{time}" for row, time in zip(rows, (40, 90), strict=True)]
    (tmp_path / f"{stem}.csv").write_text("\n".join([f"{MACHINE},{columns},time_us", *lines]) + "\n")
    tables = read_measured_tables([tmp_path], h100)
    table = read_table(tmp_path / f"{stem}.csv")
    families = [family for family in families_of(stem) if family.name in AXES]
    assert families
    for family in families:
        read = family.rows(stem, table.frame)
        shapes = {name: read[name].to_numpy(np.float64) for name in shape_columns(read)}
        kv_dtype, variant = str(read["kv_dtype"].iloc[0]), str(read["variant"].iloc[0])
        found = tables.seconds(family.name, "bfloat16", kv_dtype, (variant,), shapes)
        assert found == pytest.approx([40e-6, 90e-6]), family.name
        assert np.isnan(tables.seconds(family.name, "int8", kv_dtype, (variant,), shapes)).all()


def test_an_all_gather_does_not_stand_for_an_all_reduce(tmp_path: Path, h100: Accelerator) -> None:
    rows = f"{H100},all_gather,8,65536,40\n{H100},all_gather,8,1048576,90\n"
    (tmp_path / "comm.csv").write_text(f"{MACHINE},op,num_gpus,bytes,time_us\n{rows}")
    tables = read_measured_tables([tmp_path], h100)
    shapes = {
        name: np.array([value]) for name, value in {"bytes": 65536.0, "ranks": 8.0, "across": 0.0}.items()
    }
    assert tables.seconds("communication", "bfloat16", "", ("all_gather/NCCL",), shapes) == pytest.approx(
        [40e-6]
    )
    assert np.isnan(tables.seconds("communication", "bfloat16", "", ("all_reduce/NCCL",), shapes)).all()
