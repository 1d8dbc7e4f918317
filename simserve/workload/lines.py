"""Trace files as streams of rows, plain or gzipped, with a row's number in every error."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from simserve.errors import TraceError, nearest
from simserve.units import NS_PER_S

_GZIP_MAGIC = b"\x1f\x8b"
# Larger than any real number in a trace; 2^53 is where floats stop being exact integers.
LARGEST = 2**53
MOST_TOKENS = 2**31
# About 146 years: all sums of a trace's times stay within 64 bits.
MOST_NS = 2**62


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a plain or gzipped file as UTF-8 text; what it is, is seen from its first bytes.

    Raises:
        TraceError: If it cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
        raw = gzip.open(path, "rb") if zipped else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise TraceError(f"cannot read the trace: {error.strerror or error}", file=str(path)) from error
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, plain or gzipped.

    Raises:
        TraceError: If it cannot be read, with the number of the line at which it broke.
    """
    number = 0
    with open_text(path) as file:
        try:
            for number, line in enumerate(file, start=1):  # noqa: B007
                yield line
        except UnicodeDecodeError as error:
            raise TraceError("this is no UTF-8 text", file=str(path), line=number + 1) from error
        except (OSError, EOFError, zlib.error) as error:
            raise TraceError(
                f"the file is cut off or damaged: {error}", file=str(path), line=number + 1
            ) from error


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


class Record:
    """One JSON object of a JSONL file, and where it stands."""

    __slots__ = ("_file", "fields", "number")

    def __init__(self, file: str, number: int, fields: dict[str, Any]) -> None:
        self._file = file
        self.fields = fields
        self.number = number

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def integer(self, key: str, *, least: int = 0) -> int:
        """Return a value as an integer, at least `least` (2.0 is 2)."""
        value = self.fields.get(key)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= LARGEST:
            self.fail(key, f"expected an integer, at least {least}")
        return value

    def number_at_least_0(self, key: str) -> float:
        """Return a value as a finite number, at least 0."""
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            self.fail(key, "expected a finite number, at least 0")
        return float(value)

    def tokens(self, key: str) -> int:
        """Return a value as a number of tokens, at least 0."""
        value = self.integer(key)
        if value > MOST_TOKENS:
            self.fail(key, "expected at most 2^31 tokens")
        return value

    def time_ns(self, key: str, unit_ns: int) -> int:
        """Return a time in units of `unit_ns` as integer nanoseconds."""
        value = round(self.number_at_least_0(key) * unit_ns)
        if value > MOST_NS:
            self.fail(key, "expected a time within 146 years")
        return value

    def integers(self, key: str) -> list[int]:
        """Return a value as a list of integers of 63 bits; a missing one is empty."""
        value = self.fields.get(key, [])
        if type(value) is not list or any(type(item) is not int for item in value):
            self.fail(key, "expected a list of integers")
        if value and not -(2**62) <= min(value) <= max(value) <= 2**62:
            self.fail(key, "expected integers of at most 2^62")
        return value

    def text(self, key: str) -> str:
        """Return a value as text, "" where it is missing."""
        value = self.fields.get(key, "")
        return value if isinstance(value, str) else json.dumps(value)

    def part(self, fields: dict[str, Any]) -> Record:
        """Return an object inside this one, at the same place."""
        return Record(self._file, self.number, fields)

    def fail(self, key: str, expected: str) -> NoReturn:
        """Raise a TraceError that names a key."""
        if key in self.fields:
            found = json.dumps(self.fields[key])
            found = found if len(found) <= 40 else found[:37] + "..."
            raise TraceError(f"{key} is {found}; {expected}", file=self._file, line=self.number)
        hint = nearest(key, self.fields)
        raise TraceError(f"the row has no {key!r}{hint}; {expected}", file=self._file, line=self.number)


def read_jsonl(path: Path) -> Iterator[Record]:
    """Yield the objects of a JSONL file; empty lines are skipped.

    Raises:
        TraceError: If a line is no JSON object.
    """
    file = str(path)
    for number, line in enumerate(read_lines(path), start=1):
        if line.isspace():
            continue
        try:
            fields = json.loads(line.rstrip())  # else an early end is reported in the next line
        except (ValueError, RecursionError) as error:
            column = getattr(error, "colno", None)
            message = f"broken JSON: {getattr(error, 'msg', error)}; expected one object a line"
            raise TraceError(message, file=file, line=number, column=column) from error
        if not isinstance(fields, dict):
            raise TraceError("expected a JSON object", file=file, line=number, column=1)
        yield Record(file, number, fields)
