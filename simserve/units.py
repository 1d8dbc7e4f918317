"""Quantities with units as people write them ("80 GiB", "500 ms", "10/s"), and the clock's nanoseconds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from simserve.errors import InputError, nearest

NS_PER_S = 1_000_000_000

BYTE_UNITS: Mapping[str, float] = {
    "B": 1,
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
TIME_UNITS: Mapping[str, float] = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86400,
}
RATE_UNITS: Mapping[str, float] = {"/s": 1, "/min": 1 / 60, "/h": 1 / 3600, "/d": 1 / 86400}

_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")


def parse_bytes(value: str | float) -> int:
    """Return a memory size in bytes, rounded to an integer.

    Args:
        value: A number (bytes), or text such as "80 GiB" or "1.5GB" (powers of 1024 with the i, else of
            1000).

    Raises:
        InputError: If it is no size, negative or not finite.
    """
    return round(_parse(value, BYTE_UNITS, "a memory size such as '80 GiB'"))


def parse_seconds(value: str | float) -> float:
    """Return a duration in seconds.

    Args:
        value: A number (seconds), or text such as "1s", "500 ms" or "2 min".

    Raises:
        InputError: If it is no duration, negative or not finite.
    """
    return _parse(value, TIME_UNITS, "a duration such as '500 ms'")


def parse_rate(value: str | float) -> float:
    """Return a rate in events per second.

    Args:
        value: A number (per second), or text such as "10/s", "600/min" or "5/h".

    Raises:
        InputError: If it is no rate, negative or not finite.
    """
    return _parse(value, RATE_UNITS, "a rate such as '10/s'")


def seconds_to_ns(seconds: float) -> int:
    """Return seconds as integer nanoseconds, rounded to the nearest."""
    return round(seconds * NS_PER_S)


def ns_to_seconds(ns: int) -> float:
    """Return nanoseconds as seconds."""
    return ns / NS_PER_S


def _parse(value: str | float, units: Mapping[str, float], expected: str) -> float:
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None:
            raise InputError(f"cannot read {value!r}; expected {expected}")
        unit = match[2].replace(" ", "")
        if unit and unit not in units:
            raise InputError(f"unknown unit {unit!r} in {value!r}{nearest(unit, units)}; expected {expected}")
        number = float(match[1]) * (units[unit] if unit else 1)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"cannot read {value!r}; expected {expected}")
    else:
        number = float(value)
    if not math.isfinite(number) or number < 0:
        raise InputError(f"{value!r} is out of range; expected {expected}, finite and not negative")
    return number
