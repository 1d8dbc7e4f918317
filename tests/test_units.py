"""Quantities with units, and the conversion to nanoseconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.errors import InputError
from simserve.units import ns_to_seconds, parse_bytes, parse_rate, parse_seconds, seconds_to_ns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80 GiB", 80 * 2**30),
        ("1.5GB", 1_500_000_000),
        ("64kB", 64_000),
        (12, 12),
        ("512", 512),
        ("1e3 B", 1000),
    ],
)
def test_bytes(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1s", 1), ("500 ms", 0.5), ("2 min", 120), ("10us", 1e-5), (0.25, 0.25), ("1h", 3600)],
)
def test_seconds(text: str | float, expected: float) -> None:
    assert parse_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "expected"), [("10/s", 10), ("600 /min", 10), ("5/h", 5 / 3600), (3, 3)])
def test_rates(text: str | float, expected: float) -> None:
    assert parse_rate(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "ten", "10 GiB", "-1s", "nan", "1e999 s", True, "1 2 s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_seconds(text)


def test_an_unknown_unit_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'GiB'"):
        parse_bytes("80 Gib")


@given(st.integers(0, 2**51))
def test_nanoseconds_survive_seconds(ns: int) -> None:
    assert seconds_to_ns(ns_to_seconds(ns)) == ns
