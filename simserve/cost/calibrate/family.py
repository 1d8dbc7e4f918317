"""The contract between measured tables and kernel models: one `Family` a kind of kernel.

A family reads the documented columns of its tables into rows of one form, says which of them are fitted
together, and which kernel model is fitted. Reading, fitting, cross-validation, checking, residuals and plots
are then the same for all families.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from simserve.cost.calibrate.tables import dtype_column, map_texts, measured_seconds, text_column
from simserve.cost.kernels.form import Array, Constants, KernelForm

if TYPE_CHECKING:
    import pandas as pd

# Columns that `Family.rows` always gives; the form's shape columns come on top.
ROW_COLUMNS = (
    "hardware",  # as the table spells it
    "framework",  # as the table spells it
    "dtype",  # as the table spells it, "bf16" as "bfloat16"
    "kv_dtype",  # "" where the table has none
    "op",  # stem/op or stem/kernel
    "group",  # "mha", "gqa", "wide" for attention, else None
    "variant",  # rows of one (hardware, framework, dtype, kv_dtype, variant) are fitted together
    "shape",  # text that names the shape, without what is swept over it (tokens, batch, context)
    "seconds",  # measured
    "excluded",  # why the row is not to be used, "" if it is
)
# Rows of one fit; more make it no better (the study's fits of 16 shapes predict 300 others).
MAX_ROWS = 3000
# Share of a residual's variance that is its own: noise, and what depends on no axis.
NOISE = 0.05


class Family(Protocol):
    """One kind of kernel: its tables, its rows and its form.

    Families inherit it, and with it what they do not say themselves.

    Attributes:
        max_rows: About how many rows a fit takes, spread over all shapes; errors are of all rows.
    """

    max_rows: int = MAX_ROWS

    @property
    def name(self) -> str:
        """Key of the family in a calibration file: "gemm", "decode_attention", ..."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Stems of the tables that it reads ("gemm" reads gemm.parquet or gemm.csv)."""

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Return one row an input row, with the table's index: `ROW_COLUMNS` and the form's shape columns.

        Raises:
            InputError: If a documented column is missing or holds a wrong value; names the first such row.
        """

    def form(self, variant: str) -> KernelForm:
        """The kernel model of a variant."""

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """The dtype whose peak rate bounds the kernel's arithmetic (a key of `Accelerator.peak_flops`)."""

    def generic(self, variant: str) -> Constants:
        """Constants of the generic tier, for a GPU or dtype without a fit."""

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """Shape columns and weights over whose logarithms residuals are interpolated; () for none."""

    def residual_shrinkage(self, variant: str) -> float:
        """Share of a residual's variance that no neighbour tells of; less for rows of little scatter."""
        return NOISE

    def pins(self, dtype: str) -> tuple[Sequence[str], Sequence[str]]:
        """The dtypes from whose fit a dtype takes constants over, best first, and the names of those."""
        return (), ()

    def alternatives(self, variant: str, fitted: Collection[str]) -> Sequence[str]:
        """Which fitted variants may stand for one that was not, nearest first."""
        return ()

    def tells_of_others(self, variant: str) -> bool:
        """Whether rows of a variant count for the generic tier, which prices other accelerators."""
        return True


def family_rows(
    stem: str,
    table: pd.DataFrame,
    columns: Mapping[str, Array],
    *,
    op: pd.Series[Any],
    variant: pd.Series[Any] | str,
    shape: pd.Series[str],
    seconds: Array | None = None,
    excluded: Array | str = "",
    framework: str | None = None,
    dtype: str | None = None,
) -> pd.DataFrame:
    """Return a table's rows in the form of `Family.rows`; KV dtype and group are left to attention.

    Args:
        stem: Of the table.
        table: As read.
        columns: The form's shape columns.
        op: The table's own operators or kernels.
        variant, shape: See `ROW_COLUMNS`.
        seconds: Measured; None: the table's time_us.
        excluded: Why rows are not to be used.
        framework, dtype: Of a table without such a column; None: it must have it.
    """
    import pandas as pd

    names = {str(name): f"{stem}/{name}" for name in op.cat.categories}
    return pd.DataFrame(
        {
            "hardware": text_column(table, "hardware"),
            "framework": text_column(table, "framework", default=framework),
            "dtype": dtype_column(table, default=dtype),
            "kv_dtype": "",
            "op": map_texts(op, names),
            "group": None,
            "variant": variant,
            "shape": pd.Series(shape.array, table.index),
            "seconds": measured_seconds(table) if seconds is None else seconds,
            "excluded": excluded,
            **columns,
        },
        index=table.index,
    )
