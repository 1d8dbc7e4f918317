"""Prices and powers: read, and refused with what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.errors import InputError
from simserve.study.prices import price_of, read_powers, read_price_file, read_prices

FILE = """
date: 2026-09-25
source: a price list
usd_per_hour: {NVIDIA L40S: 1.09, h100-sxm: 3}
"""


def test_a_file_of_prices_says_when_and_where_from(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(FILE)
    read = read_price_file(str(tmp_path / "p.yaml"))
    assert (str(read.date), read.source) == ("2026-09-25", "a price list")
    prices = read_prices(str(tmp_path / "p.yaml"), ["h100-sxm=2.5"])
    assert prices == {"l40s": 1.09, "h100-sxm": 2.5}
    assert price_of("NVIDIA L40S", prices) == 1.09
    assert price_of("l4", prices) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FILE.replace("date", "dat"), r"p\.yaml:2:1: .*date"),
        (FILE.replace("2026-09-25", "soon"), "date"),
        (FILE.replace("1.09", "-1"), "usd_per_hour"),
        (FILE.replace("NVIDIA L40S", "l40z"), "did you mean 'l40s'"),
        ("source: x\ndate: 2026-01-01", "usd_per_hour"),
        ("[]", "expected a mapping"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_prices(str(tmp_path / "p.yaml"), [])


@pytest.mark.parametrize("text", ["l40s", "l40s=", "l40s=-1", "l40s=nan"])
def test_prices_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="expected NAME=USD"):
        read_prices(None, [text])


def test_powers() -> None:
    assert read_powers(["l40s=35:320"]) == {"l40s": (35.0, 320.0)}
    assert read_powers(["L40S=tdp"]) == {"l40s": (350.0, 350.0)}
    with pytest.raises(InputError, match="no limit of this board"):
        read_powers(["trainium1=tdp"])
    for wrong in ("l40s=35", "l40s=320:35", "l40s=a:b"):
        with pytest.raises(InputError, match="expected NAME=IDLE:BUSY"):
            read_powers([wrong])
