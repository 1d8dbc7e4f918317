"""Azure LLM inference traces (Patel et al. 2024): TIMESTAMP, ContextTokens, GeneratedTokens."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from pathlib import Path

from simserve.workload.csv_rows import Row, read_csv
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Workload

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

# 2023: "2023-11-16 18:17:03.9799600"; 2024: the same with "+00:00".
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|\+00:00)?")


def read(path: Path) -> Workload:
    """Read an Azure 2023 or 2024 trace; its first request arrives at 0.

    Raises:
        TraceError: If a row is broken.
    """
    rows = TraceRows(path)
    for row in read_csv(path, COLUMNS):
        rows.add(_time_ns(row), row.tokens("ContextTokens"), row.tokens("GeneratedTokens"))
    rows.start_at_zero()
    return rows.workload("Azure LLM inference trace, UTC times from its first request")


_DAYS = 130 * 365  # from 1970; keeps nanoseconds within 64 bits


def _time_ns(row: Row) -> int:
    match = _TIMESTAMP.fullmatch(row.text("TIMESTAMP"))
    if match is None:
        row.fail("TIMESTAMP", "expected a UTC time such as 2023-11-16 18:17:03.9799600")
    day, hours, minutes, seconds, fraction = match.groups()
    try:
        days = _day_number(day)
    except ValueError:
        row.fail("TIMESTAMP", "expected a day of the calendar")
    if not 0 <= days < _DAYS:
        row.fail("TIMESTAMP", "expected a day from 1970 to 2099")
    whole = ((days * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


@lru_cache(maxsize=16)
def _day_number(day: str) -> int:
    return date.fromisoformat(day).toordinal() - date(1970, 1, 1).toordinal()
