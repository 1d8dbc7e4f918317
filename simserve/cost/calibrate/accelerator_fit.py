"""Fits every group of rows that tables hold, accelerator by accelerator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simserve.cost.calibrate.families import families_of
from simserve.cost.calibrate.family import Family
from simserve.cost.calibrate.files import NamedFit
from simserve.cost.calibrate.processes import in_processes
from simserve.cost.calibrate.tables import find_tables, read_table
from simserve.cost.calibrate.validation import NOTHING, fit_group
from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernels.form import Constants
from simserve.devices.accelerator import Accelerator

if TYPE_CHECKING:
    import pandas as pd

# Rows that are fitted together.
GROUP = ["framework", "dtype", "kv_dtype", "variant"]
# Fewer rows than this fit no constants.
MIN_ROWS = 12
# An overhead taken over from another dtype is at most this share of the fastest time.
FASTEST_SHARE = 0.9

FindAccelerator = Callable[[str], Accelerator | None]


class RowGroup(NamedTuple):
    """Usable rows that are fitted together.

    Attributes:
        family: Whose rows they are.
        accelerator: What they were measured on.
        framework, dtype, kv_dtype, variant: What they have in common.
        rows: As of `Family.rows`.
    """

    family: Family
    accelerator: Accelerator
    framework: str
    dtype: str
    kv_dtype: str
    variant: str
    rows: pd.DataFrame

    def fit(self, earlier: Sequence[NamedFit] = ()) -> NamedFit:
        """Fit the group and state its error.

        Args:
            earlier: Fits of the same accelerator, from which constants may be taken over.
        """
        device = describe_device(self.accelerator, self.family.compute_dtype(self.dtype, self.kv_dtype))
        return NamedFit(
            family=self.family.name,
            framework=self.framework,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype,
            variant=self.variant,
            form=self.family.form(self.variant).name,
            rows=len(self.rows),
            shapes=sorted({str(shape) for shape in self.rows["shape"].unique()}),
            fit=fit_group(self.family, self.variant, self.rows, device, pinned=self.pinned(earlier)),
        )

    def pinned(self, earlier: Sequence[NamedFit]) -> Constants:
        """Return the constants that the family takes over from the fit of another dtype."""
        dtypes, names = self.family.pins(self.dtype)
        for dtype in dtypes:
            for fit in earlier:
                if (fit.family, fit.framework, fit.dtype, fit.variant) == (
                    self.family.name, self.framework, dtype, self.variant,
                ):  # fmt: skip
                    # An overhead is below any time that was measured.
                    least = FASTEST_SHARE * float(self.rows["seconds"].min())
                    return {name: min(fit.fit.constants[name], least) for name in names}
        return NOTHING


def fit_groups(groups: Iterable[RowGroup], workers: int = 1) -> Iterator[tuple[str, NamedFit]]:
    """Fit groups and yield each one's accelerator and fit, in the groups' order.

    Args:
        groups: As of `read_groups`: those of one family and accelerator follow each other.
        workers: Processes that fit; with 1 this one does it.
    """
    chains = groupby(groups, lambda group: (group.family.name, group.accelerator.name))
    return in_processes(_fit_in_turn, (list(chain) for _, chain in chains), workers)


def _fit_in_turn(groups: Sequence[RowGroup]) -> list[tuple[str, NamedFit]]:
    """Fit groups of one family and accelerator; later ones take constants over from earlier ones."""
    found: list[NamedFit] = []
    for group in groups:
        found.append(group.fit(found))
    return [(group.accelerator.name, fit) for group, fit in zip(groups, found, strict=True)]


def read_groups(
    data: str | Path, find: FindAccelerator, families: frozenset[str] = frozenset()
) -> Iterator[RowGroup]:
    """Yield the groups of rows that can be fitted, family by family.

    Args:
        data: A folder of tables, or one table.
        find: The accelerator that a table's `hardware` means; None: its rows are not wanted.
        families: Names of the families wanted; empty: all.

    Raises:
        InputError: If a table is wrong.
    """
    files: dict[str, tuple[Family, list[Path]]] = {}
    for file in find_tables(data):
        for family in families_of(file.stem):
            if not families or family.name in families:
                files.setdefault(family.name, (family, []))[1].append(file)
    for family, tables in files.values():
        yield from _groups_of(family, tables, find)


def _groups_of(family: Family, files: list[Path], find: FindAccelerator) -> Iterator[RowGroup]:
    import pandas as pd

    parts: dict[str, tuple[Accelerator, list[pd.DataFrame]]] = {}
    for file in files:
        table = read_table(file)
        rows = family.rows(table.stem, table.frame)
        rows = rows[(rows["excluded"] == "").to_numpy()]
        for hardware, mine in rows.groupby("hardware", observed=True, sort=True):
            accelerator = find(str(hardware))
            if accelerator is not None:
                parts.setdefault(accelerator.name, (accelerator, []))[1].append(_as_texts(mine))
    for accelerator, tables in (parts[name] for name in sorted(parts)):
        joined = tables[0] if len(tables) == 1 else pd.concat(tables)
        for (framework, dtype, kv_dtype, variant), group in joined.groupby(GROUP, observed=True, sort=True):
            if len(group) >= MIN_ROWS:
                keys = (str(framework), str(dtype), str(kv_dtype), str(variant))
                yield RowGroup(family, accelerator, *keys, group)


def _as_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """Categories of different tables differ: texts instead."""
    return rows.astype({str(name): object for name in rows.columns if rows[name].dtype == "category"})
