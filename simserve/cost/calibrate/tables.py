"""Reads measured tables (parquet or CSV) and checks their columns; wrong rows are named by file and line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from simserve.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv")
# Spellings of a dtype that mean the same; reports use the right-hand one.
DTYPE_SPELLINGS = {"bf16": "bfloat16", "fp16": "float16", "half": "float16"}


class Table(NamedTuple):
    """A measured table.

    Attributes:
        stem: Name of the file without its ending; families are found by it.
        file: As errors name it.
        frame: Its rows; `frame.attrs` carries the file's name and the line of the first row for errors.
    """

    stem: str
    file: str
    frame: pd.DataFrame


def find_tables(path: str | Path) -> list[Path]:
    """Return the tables in a folder (not below it), sorted, or the one table named.

    Raises:
        InputError: If there is none, or the path is no table.
    """
    wanted = Path(path).expanduser()
    if wanted.is_dir():
        found = sorted(entry for entry in wanted.iterdir() if entry.suffix in SUFFIXES)
        if not found:
            raise InputError("no table (*.parquet, *.csv) in this folder", file=str(path))
        return found
    if not wanted.is_file():
        raise InputError("no such file or folder", file=str(path))
    if wanted.suffix not in SUFFIXES:
        raise InputError(
            f"expected a table that ends in .parquet or .csv, got {wanted.name!r}", file=str(path)
        )
    return [wanted]


def read_tables(path: str | Path) -> Iterator[Table]:
    """Yield the tables of a folder, or the one table named, one at a time."""
    for file in find_tables(path):
        yield read_table(file)


def read_table(file: Path) -> Table:
    """Read one table; its rows are numbered from 0.

    Raises:
        InputError: If the file cannot be read as what its ending says.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, low_memory=False)
    except (OSError, ValueError, ImportError) as error:
        message = str(error).strip().split("\n")[0]
        raise InputError(f"cannot read the table: {message}", file=str(file)) from error
    frame = frame.reset_index(drop=True)
    # A CSV has a header line; a parquet file's rows are counted from 1.
    frame.attrs.update(file=str(file), first_line=2 if file.suffix == ".csv" else 1)
    return Table(file.stem, str(file), frame)


def require_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Check that a table has its documented columns.

    Raises:
        InputError: Names the first missing one, and the nearest that there is.
    """
    for column in columns:
        if column not in table.columns:
            have = [str(name) for name in table.columns]
            message = f"the table has no column {column!r}{nearest(column, have)}"
            raise InputError(message, file=table.attrs.get("file"))


def number_column(
    table: pd.DataFrame,
    column: str,
    *,
    minimum: float = 0.0,
    above: bool = False,
    missing: float | None = None,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a column as float64, checked.

    Args:
        table: As read.
        column: Its name.
        minimum: The least value that is right.
        above: The minimum itself is wrong too.
        missing: What an empty cell stands for; None: an empty cell is wrong.

    Raises:
        InputError: If the column is missing, or a cell is empty, no number or too small; names its row.
    """
    import pandas as pd

    require_columns(table, (column,))
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if missing is not None:
        values = np.where(table[column].isna().to_numpy(), missing, values)
    wrong = ~(np.isfinite(values) & ((values > minimum) if above else (values >= minimum)))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        bound = f"above {minimum:g}" if above else f"of at least {minimum:g}"
        raise bad_row(table, row, f"{column}: expected a number {bound}, got {table[column].iloc[row]!r}")
    return values


def measured_seconds(
    table: pd.DataFrame, column: str = "time_us"
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the measured times, from microseconds; they must be above 0."""
    return number_column(table, column, above=True) * 1e-6


def text_column(table: pd.DataFrame, column: str, default: str | None = None) -> pd.Series[str]:
    """Return a column of texts as a categorical series; an empty cell is "".

    Args:
        table: As read.
        column: Its name.
        default: What the whole column is where the table lacks it; None: it must be there.
    """
    import pandas as pd

    if column not in table.columns and default is not None:
        return categories_of(np.zeros(len(table), np.int64), [default], table.index)
    require_columns(table, (column,))
    series = table[column]
    if not isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype("category")
    if series.isna().any():
        if "" not in series.cat.categories:
            series = series.cat.add_categories([""])
        series = series.fillna("")
    return cast("pd.Series[str]", series.cat.remove_unused_categories())


def dtype_column(table: pd.DataFrame, column: str = "dtype", default: str | None = None) -> pd.Series[str]:
    """Return a column of dtypes in the spelling of reports."""
    series = text_column(table, column, default)
    names = {name: DTYPE_SPELLINGS.get(str(name), str(name)) for name in series.cat.categories}
    return map_texts(series, names)


def categories_of(
    codes: npt.NDArray[np.int64], texts: list[str], index: pd.Index[int] | None = None
) -> pd.Series[str]:
    """Return a categorical series whose rows are `texts[code]`."""
    import pandas as pd

    from_codes: Any = pd.Categorical.from_codes
    categories = from_codes(codes, texts)
    return cast("pd.Series[str]", pd.Series(categories, index))


def map_texts(series: pd.Series[str], names: dict[str, str]) -> pd.Series[str]:
    """Replace the categories of a categorical series; several may become one."""

    old = [str(category) for category in series.cat.categories]
    new = sorted({names.get(category, category) for category in old})
    place = np.array([new.index(names.get(category, category)) for category in old], dtype=np.int64)
    codes = np.asarray(series.cat.codes, dtype=np.int64)
    return categories_of(place[codes] if old else codes, new, series.index)


def name_shapes(
    columns: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]], pattern: str
) -> pd.Series[str]:
    """Return a text for each row, numbered from 0, from its numbers.

    Args:
        columns: Numbers by the names that the pattern uses; written as integers.
        pattern: As of `str.format`, without spaces: "{n}x{k}".
    """

    rows = [np.asarray(values, dtype=np.int64) for values in columns.values()]
    codes = np.zeros(len(rows[0]), np.int64)
    for values in rows:
        found, places = np.unique(values, return_inverse=True)
        _, codes = np.unique(codes * len(found) + places, return_inverse=True)
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    texts = [
        pattern.format(**dict(zip(columns, row, strict=True)))
        for row in zip(*(values[first].tolist() for values in rows), strict=True)
    ]
    return categories_of(codes, texts)


def bad_row(table: pd.DataFrame, row: int, message: str) -> InputError:
    """Return the error of one row, counted from 0."""
    return InputError(message, file=table.attrs.get("file"), line=row + int(table.attrs.get("first_line", 1)))
