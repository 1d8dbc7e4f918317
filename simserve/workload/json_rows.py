"""JSONL traces, object by object, with the line in errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from simserve.errors import TraceError, nearest
from simserve.workload.lines import LARGEST, MOST_NS, MOST_TOKENS, read_lines


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
