"""What `capacity` prints of a rate that it tried."""

from __future__ import annotations

import pytest

from simserve.cli.capacity import _teller
from simserve.cli.executor_options import CountLine
from simserve.study.probe import Probe


def test_large_figures_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    figures: dict[str, float | None] = {
        "p90_ttft_ms": 21_334.6,
        "p99_tpot_ms": None,
        "output_throughput": 98_765.4,
    }
    _teller([], CountLine("probes", quiet=True))(0, Probe(12_345.6, holds=True, steady=True, figures=figures))
    line = " ".join(capsys.readouterr().out.split())
    assert line == "12,346 requests/s holds p90_ttft_ms 21,335, p99_tpot_ms -, output_throughput 98,765"
