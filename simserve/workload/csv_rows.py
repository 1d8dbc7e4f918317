"""CSV traces, row by row, with the place of every field in errors."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from simserve.errors import TraceError, nearest
from simserve.units import NS_PER_S
from simserve.workload.lines import LARGEST, MOST_NS, MOST_TOKENS, read_lines


class Row:
    """One row of a CSV file: its fields by column name, and where it stands."""

    __slots__ = ("_columns", "_fields", "_file", "number")

    def __init__(self, file: str, number: int, columns: dict[str, int], fields: list[str]) -> None:
        self._file = file
        self._columns = columns
        self._fields = fields
        self.number = number

    def __contains__(self, column: str) -> bool:
        return column in self._columns

    @property
    def columns(self) -> dict[str, int]:
        """Position of every column, by its name."""
        return self._columns

    def text(self, column: str) -> str:
        """Return a field's text, "" where the file has no such column."""
        index = self._columns.get(column)
        return "" if index is None else self._fields[index].strip()

    def tokens(self, column: str) -> int:
        """Return a field as a whole number, at least 0 (2.0 is 2)."""
        text = self._fields[self._columns[column]]
        try:
            value = int(text)
        except ValueError:
            try:
                value = math.trunc(float(text))
                if float(text) != value:
                    raise ValueError
            except (ValueError, OverflowError):
                self.fail(column, "expected a whole number of tokens")
        if not 0 <= value <= MOST_TOKENS:
            self.fail(column, "expected a number of tokens, from 0 to 2^31")
        return value

    def integer(self, column: str) -> int:
        """Return a field as an integer of either sign."""
        try:
            value = int(self._fields[self._columns[column]])
        except ValueError:
            self.fail(column, "expected an integer")
        if abs(value) > LARGEST:
            self.fail(column, "expected an integer of at most 2^53")
        return value

    def number_at_least_0(self, column: str) -> float:
        """Return a field as a finite number, at least 0."""
        try:
            value = float(self._fields[self._columns[column]])
        except ValueError:
            self.fail(column, "expected a number")
        if not 0 <= value <= LARGEST:
            self.fail(column, "expected a finite number, at least 0")
        return value

    def time_ns(self, column: str) -> int:
        """Return a field in seconds as integer nanoseconds."""
        value = round(self.number_at_least_0(column) * NS_PER_S)
        if value > MOST_NS:
            self.fail(column, "expected a time within 146 years")
        return value

    def fail(self, column: str, expected: str) -> NoReturn:
        """Raise a TraceError that points at a field."""
        index = self._columns[column]
        place = sum(len(field) + 1 for field in self._fields[:index]) + 1
        message = f"{column} is {self._fields[index]!r}; {expected}"
        raise TraceError(message, file=self._file, line=self.number, column=place)


def read_csv(path: Path, required: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header line.

    Args:
        path: The file, plain or gzipped.
        required: Columns that it must have; others may be there.

    Raises:
        TraceError: If a column is missing or a row has too few or too many fields.
    """
    reader = csv.reader(read_lines(path))
    file = str(path)
    try:
        header = [name.strip() for name in next(reader)]
    except StopIteration:
        raise TraceError(
            f"the file is empty; expected a header with {', '.join(required)}", file=file
        ) from None
    columns = {name: index for index, name in enumerate(header)}
    for name in required:
        if name not in columns:
            raise TraceError(f"the header has no column {name!r}{nearest(name, header)}", file=file, line=1)
    try:
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                message = f"the row has {len(fields)} fields; expected {len(header)}: {','.join(header)}"
                raise TraceError(message, file=file, line=reader.line_num)
            yield Row(file, reader.line_num, columns, fields)
    except csv.Error as error:
        raise TraceError(f"broken CSV: {error}", file=file, line=reader.line_num) from error
