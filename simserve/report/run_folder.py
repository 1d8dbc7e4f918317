"""A run's folder, read back: what every later report is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


class Table(Mapping[str, Column]):
    """The columns of a Parquet file by name; each is read when it is first asked for.

    Args:
        path: The file.

    Raises:
        InputError: If it cannot be read, now or then.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        with self._telling():
            self._names = list(pq.read_schema(path).names)
        self._columns: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            if name not in self._names:
                raise KeyError(name)
            self._columns[name] = self._read(name)
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _read(self, name: str) -> Column:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Not `read_table`, which loads all of `pyarrow.dataset` first.
        with self._telling(), pq.ParquetFile(self._path) as file:
            column = file.read(columns=[name])[name]
        if not pa.types.is_dictionary(column.type):
            return np.array(column.to_numpy(zero_copy_only=False))
        if column.null_count:
            return np.array(column.cast(pa.string()).to_numpy(zero_copy_only=False))
        # Each word once: a text a row would take most of the time.
        whole = column.unify_dictionaries().combine_chunks()
        words = np.array(whole.dictionary.to_pylist(), dtype=object)
        return np.asarray(words[whole.indices.to_numpy(zero_copy_only=False)])

    @contextmanager
    def _telling(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self._path.name} cannot be read: {error}", file=str(self._path.parent)
            ) from error


@dataclass(frozen=True, eq=False)
class RunFolder:
    """The files that `simserve run --out` left.

    Attributes:
        path: The folder.
        summary: `summary.json`.
        scenario: `scenario.yaml`, as resolved.
        allow_files: Folders under which the files that the scenario names must lie to be opened, beside the
            package's own data; None: anywhere.
    """

    path: Path
    summary: Mapping[str, Any]
    scenario: Mapping[str, Any]
    allow_files: Sequence[Path] | None = None

    @classmethod
    def read(cls, path: str | Path, *, allow_files: Sequence[Path] | None = None) -> RunFolder:
        """Read a folder; its tables are read when they are asked for.

        Raises:
            InputError: If it holds no run, or a link to a file elsewhere than under `allow_files`.
        """
        import yaml

        folder = Path(path)
        if allow_files is not None:
            _refuse_links(folder, allow_files)
        summary = read_summary(folder)
        try:
            scenario = yaml.safe_load((folder / SCENARIO).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"{SCENARIO} cannot be read: {error}", file=str(folder)) from error
        return cls(folder, summary, scenario, allow_files)

    @cached_property
    def requests(self) -> Mapping[str, Column]:
        """The columns of `requests.parquet`."""
        return Table(self.path / "requests.parquet")

    @cached_property
    def steps(self) -> Mapping[str, Column]:
        """The columns of `steps.parquet`."""
        return Table(self.path / "steps.parquet")

    @cached_property
    def spans(self) -> Mapping[str, Column]:
        """The columns of `spans.parquet`."""
        return Table(self.path / "spans.parquet")

    @cached_property
    def step_ends(self) -> dict[int, Floats]:
        """The end of each step in seconds, by instance."""
        table = Table(self.path / "step_times.parquet")
        return {int(i): table["end_s"][rows] for i, rows in _groups(table["instance"]).items()}

    @cached_property
    def step_starts(self) -> dict[int, Floats]:
        """The start of each step in seconds, by instance: within a stretch the end of the one before."""
        starts = {}
        for instance, rows in self.step_rows.items():
            ends = self.step_ends[instance]
            begun = np.concatenate((ends[:1], ends[:-1]))
            first = np.concatenate(([0], np.cumsum(self.steps["steps"][rows])[:-1])).astype(np.int64)
            begun[first] = self.steps["start_s"][rows]
            starts[instance] = begun
        return starts

    @cached_property
    def step_rows(self) -> dict[int, Ints]:
        """The rows of `steps` of each instance, in order of time."""
        return _groups(self.steps["instance"])

    @cached_property
    def span_rows(self) -> Ints:
        """The row of each span's request."""
        ids = self.requests["request_id"]
        order = np.argsort(ids, kind="stable")
        return np.asarray(order[np.searchsorted(ids, self.spans["request_id"], sorter=order)])

    @property
    def instances(self) -> list[int]:
        """The instances that ran a step, in order."""
        return sorted(self.step_ends)

    def pool_of(self, instance: int) -> Mapping[str, Any]:
        """Return the pool of the summary that an instance belongs to."""
        return next(pool for pool in self.summary["pools"] if instance in pool["instances"])


def _refuse_links(folder: Path, allow_files: Sequence[Path]) -> None:
    """Refuse a folder that lies, or holds a link to a file, outside of those that may be read."""
    allowed = [each.resolve() for each in allow_files]
    for path in (folder, *(folder.iterdir() if folder.is_dir() else ())):
        if not any(path.resolve().is_relative_to(each) for each in allowed):
            raise InputError("is outside of the folders that may be read", file=str(path))


def _groups(instance: Ints) -> dict[int, Ints]:
    """Return the rows of each instance, in the table's order."""
    order = np.argsort(instance, kind="stable")
    found, first = np.unique(instance[order], return_index=True)
    parts = np.split(order, first[1:]) if len(found) else []
    return {int(key): rows for key, rows in zip(found, parts, strict=True)}
