"""Tables are read, and wrong ones named by file and row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.cost.calibrate.gemm import GemmFamily
from simserve.cost.calibrate.tables import (
    dtype_column,
    find_tables,
    name_shapes,
    number_column,
    read_table,
    text_column,
)
from simserve.errors import InputError

HEADER = "hardware,framework,dtype,op,M,N,K,time_us\n"
ROW = "h100_sxm,vllm,bf16,gemm,8,1024,1024,5.5\n"


def write(folder: Path, text: str, name: str = "gemm.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_rows_of_a_table_have_the_spelling_of_reports(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, HEADER + ROW))
    rows = GemmFamily().rows(table.stem, table.frame)
    assert rows["dtype"].tolist() == ["bfloat16"]
    assert rows["op"].tolist() == ["gemm/gemm"]
    assert rows["shape"].tolist() == ["1024x1024"]
    assert rows["seconds"].tolist() == pytest.approx([5.5e-6])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER.replace("time_us", "time") + ROW, r"no column 'time_us'; did you mean 'time'\?"),
        (HEADER + ROW + ROW.replace("5.5", "-1"), r"gemm\.csv:3: time_us: expected a number above 0"),
        (
            HEADER + ROW + ROW + ROW.replace("8,1024", "x,1024"),
            r"gemm\.csv:4: M: expected a number of at least",
        ),
        (HEADER + ROW.replace("8,1024", ",1024"), r"gemm\.csv:2: M: expected a number"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, text: str, said: str) -> None:
    table = read_table(write(tmp_path, text))
    with pytest.raises(InputError, match=said):
        GemmFamily().rows(table.stem, table.frame)


def test_a_parquet_row_is_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "gemm.parquet"
    pd.DataFrame({"M": [1.0, np.nan]}).to_parquet(path)
    with pytest.raises(InputError, match=r"gemm\.parquet:2: M"):
        number_column(read_table(path).frame, "M", minimum=1)


def test_files_that_are_no_tables_are_told(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path, "no table"),
        (tmp_path / "none", "no such file"),
        (write(tmp_path, "", "a.txt"), "ends in"),
    ):
        with pytest.raises(InputError, match=said):
            find_tables(path)
    with pytest.raises(InputError, match="cannot read the table"):
        read_table(write(tmp_path, "no parquet", "gemm.parquet"))


def test_missing_texts_are_empty_and_dtypes_one_spelling() -> None:
    table = pd.DataFrame({"dtype": ["bf16", "bfloat16", None, "fp16"]})
    assert dtype_column(table).tolist() == ["bfloat16", "bfloat16", "", "float16"]
    assert text_column(table, "source", default="x").tolist() == ["x"] * 4


def test_shapes_are_named_by_their_numbers() -> None:
    names = name_shapes({"n": np.array([2.0, 1.0, 2.0]), "k": np.array([1.0, 2.0, 1.0])}, "{n}x{k}")
    assert names.tolist() == ["2x1", "1x2", "2x1"]
