"""Text tables and confidence intervals."""

from __future__ import annotations

import pytest

from simserve.report.intervals import intervals, print_intervals, t_quantile
from simserve.report.table import format_number, format_table


def test_tables_are_aligned() -> None:
    text = format_table(("load", "rate"), [("a", "1"), ("longer", "1,234")])
    assert text.split("\n") == ["load     rate", "a           1", "longer  1,234"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (12345, "12,345"), (1234.5, "1,234"), (0.012346, "0.01235"), ("x", "x"), (True, "True")],
)
def test_numbers_have_four_digits(value: object, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    # Student's t, 97.5 %, as in any printed table of it.
    ("freedom", "quantile"),
    [(1, 12.706), (4, 2.776), (30, 2.042), (40, 2.021), (60, 2.000), (120, 1.980), (10**6, 1.960)],
)
def test_t_quantiles(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=1e-3)


def test_intervals_by_hand() -> None:
    summaries = [
        {"x": value, "seed": n, "unknown": None, "name": "s"} for n, value in enumerate((1.0, 2.0, 3.0))
    ]
    found = intervals(summaries)
    assert set(found) == {"x"}
    assert found["x"].mean == pytest.approx(2.0)
    assert found["x"].half_width == pytest.approx(4.303 * 1.0 / 3**0.5)


def test_intervals_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_intervals([{"x": 1.0}, {"x": 3.0}])
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("over 2 seeds")
    assert row.split() == ["x", "2", "12.71", "635.3%", "1", "3"]


def test_seeds_that_change_nothing_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_intervals([{"x": 1.0}, {"x": 1.0}])
    assert capsys.readouterr().out.splitlines()[-1].startswith("every seed gave the same figures")
