"""Writes CSV tables, a row as soon as it is measured: a run that is stopped leaves what it has."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


class TableWriter:
    """CSV files of one folder, one a table.

    Args:
        folder: Is made if need be; tables in it are overwritten.
        machine: Columns that all rows share: hardware, framework, version.
    """

    def __init__(self, folder: Path, machine: Mapping[str, Any]) -> None:
        self._folder = folder
        self._machine = machine
        self._files: dict[str, TextIO] = {}
        self._writers: dict[str, Any] = {}
        self.rows: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, table: str, columns: Mapping[str, Any], kernel: str, seconds: float) -> None:
        """Append one row: the machine's columns, `kernel`, the case's own, and `time_us`."""
        row = {**self._machine, "kernel": kernel, **columns, "time_us": f"{seconds * 1e6:.4f}"}
        if table not in self._writers:
            file = (self._folder / f"{table}.csv").open("w", newline="", encoding="utf-8")
            self._files[table] = file
            self._writers[table] = csv.DictWriter(file, fieldnames=list(row))
            self._writers[table].writeheader()
        self._writers[table].writerow(row)
        self._files[table].flush()
        self.rows[table] = self.rows.get(table, 0) + 1

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
