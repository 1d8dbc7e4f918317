"""Calibration files: the same in JSON lines and in YAML, small, and kept by family."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from simserve.cost.calibrate.files import NamedFit, format_calibration
from simserve.cost.calibrate.validation import ErrorStatistics, GroupFit
from simserve.cost.calibration_file import decode_residuals, parse_lines, read_fits
from simserve.cost.residual_grid import Axis, ResidualGrid
from simserve.scenario.catalog import read_calibration_file

GRID = ResidualGrid(
    (Axis("m", np.array([1.0, 2.0])), Axis("n", np.array([1.5, 4.0]))), np.array([[1, -2], [3, 127]], np.int8)
)


def fit(family: str, framework: str = "vllm", grid: ResidualGrid | None = None) -> NamedFit:
    found = GroupFit({"a_s": 1e-6, "b": 0.25, "c": -3e-05}, grid, ErrorStatistics(9, 5.123, 4.0, 9.0, -0.5))
    return NamedFit(family, framework, "bfloat16", "", "", "X1", 9, ["2x2", "1x1"], found)


def test_json_lines_are_yaml_that_says_the_same() -> None:
    text = format_calibration(
        "h100-sxm", "2026-01-02", 'it\'s: "measured" µ', [fit("gemm", grid=GRID), fit("moe")]
    )
    content = parse_lines(text)
    assert content == yaml.safe_load(text)
    assert content is not None
    first, second = read_fits(content)
    assert (first.family, first.shapes, first.error["mape"]) == ("gemm", "1x1 2x2", 5.12)
    assert second.constants == {"a_s": 1e-6, "b": 0.25, "c": -3e-05}
    assert first.residuals is not None
    assert np.array_equal(decode_residuals(first.residuals).steps, GRID.steps)


def test_other_families_of_an_older_file_stay() -> None:
    old = parse_lines(
        format_calibration("x", "2026-01-01", "", [fit("gemm"), fit("moe"), fit("gemm", "trtllm")])
    )
    text = format_calibration("x", "2026-01-02", "", [fit("gemm", "sglang")], old)
    found = read_fits(yaml.safe_load(text))
    assert [(entry.family, entry.framework, entry.shapes) for entry in found] == [
        ("gemm", "sglang", "1x1 2x2"),
        ("moe", "vllm", "1x1 2x2"),
    ]


def test_a_file_that_somebody_edited_is_read_as_yaml(tmp_path: Path) -> None:
    text = format_calibration("x", "2026-01-02", "", [fit("gemm")])
    path = tmp_path / "x.yaml"
    path.write_text(text.replace('"family": "gemm"', "family: gemm"))
    assert json.dumps(read_calibration_file(path)) == json.dumps(yaml.safe_load(text))


@pytest.mark.parametrize("text", ["", "a: b\n", "fits: []\n"])
def test_other_texts_are_left_to_yaml(text: str) -> None:
    assert parse_lines(text) is None
