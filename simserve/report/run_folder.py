"""A run's folder, read back: what every later report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simserve.errors import InputError
from simserve.metrics.writer import SCENARIO, read_summary

Column = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RunFolder:
    """The files that `simserve run --out` left.

    Attributes:
        path: The folder.
        summary: `summary.json`.
        scenario: `scenario.yaml`, as resolved.
    """

    path: Path
    summary: Mapping[str, Any]
    scenario: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> RunFolder:
        """Read a folder; its tables are read when they are asked for.

        Raises:
            InputError: If it holds no run.
        """
        import yaml

        folder = Path(path)
        summary = read_summary(folder)
        try:
            scenario = yaml.safe_load((folder / SCENARIO).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"{SCENARIO} cannot be read: {error}", file=str(folder)) from error
        return cls(folder, summary, scenario)

    @cached_property
    def requests(self) -> dict[str, Column]:
        """The columns of `requests.parquet`."""
        return self._read("requests")

    @cached_property
    def steps(self) -> dict[str, Column]:
        """The columns of `steps.parquet`."""
        return self._read("steps")

    @cached_property
    def spans(self) -> dict[str, Column]:
        """The columns of `spans.parquet`."""
        return self._read("spans")

    @cached_property
    def step_ends(self) -> dict[int, Floats]:
        """The end of each step in seconds, by instance."""
        table = self._read("step_times")
        return {int(i): table["end_s"][rows] for i, rows in _groups(table["instance"]).items()}

    @cached_property
    def step_starts(self) -> dict[int, Floats]:
        """The start of each step in seconds, by instance: within a stretch the end of the one before."""
        starts = {}
        for instance, rows in _groups(self.steps["instance"]).items():
            ends = self.step_ends[instance]
            begun = np.concatenate((ends[:1], ends[:-1]))
            first = np.concatenate(([0], np.cumsum(self.steps["steps"][rows])[:-1])).astype(np.int64)
            begun[first] = self.steps["start_s"][rows]
            starts[instance] = begun
        return starts

    @property
    def instances(self) -> list[int]:
        """The instances that ran a step, in order."""
        return sorted(self.step_ends)

    def pool_of(self, instance: int) -> Mapping[str, Any]:
        """Return the pool of the summary that an instance belongs to."""
        return next(pool for pool in self.summary["pools"] if instance in pool["instances"])

    def _read(self, name: str) -> dict[str, Column]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / f"{name}.parquet"
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path.name} cannot be read: {error}", file=str(self.path)) from error
        columns = {}
        for field in table.column_names:
            column = table[field]
            if pa.types.is_dictionary(column.type):
                column = column.cast(pa.string())
            columns[field] = column.to_numpy(zero_copy_only=False)
        return columns


def _groups(instance: Ints) -> dict[int, Ints]:
    """Return the rows of each instance, in the table's order."""
    order = np.argsort(instance, kind="stable")
    found, first = np.unique(instance[order], return_index=True)
    parts = np.split(order, first[1:]) if len(found) else []
    return {int(key): rows for key, rows in zip(found, parts, strict=True)}
