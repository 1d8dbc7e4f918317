"""Reading hardware files: what four keys make, and what is refused, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.devices.accelerator import GB, GIB
from simserve.errors import InputError
from simserve.scenario.hardware_file import read_accelerator

MINE = """\
name: my-gpu
peak_tflops: {bfloat16: 200}
memory_gb: 32
memory_bandwidth_gb_per_s: 1200
"""


def test_four_keys_make_an_accelerator(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    mine = read_accelerator(tmp_path / "mine.yaml")
    assert mine.peak_for("float16") == 200e12
    assert mine.peak_for("fp8") == 200e12
    assert mine.peak_for("float32") == 100e12
    assert mine.memory_bytes == int(32 * 0.99 * GIB)
    assert mine.memory_bandwidth_bytes_per_s == 1200 * GB
    assert (mine.link_kind, mine.link_domain, mine.link_bytes_per_s) == ("PCIe", 1, 31.5 * GB)
    assert (mine.price_usd_per_hour, mine.idle_power_w, mine.busy_power_w) == (None, None, None)


def test_optional_keys_are_scaled(tmp_path: Path) -> None:
    more = ["link: {kind: NVLink, gb_per_s: 450, domain: 8}", "power_w: {idle: 60, busy: 650}", "l2_mb: 50"]
    (tmp_path / "mine.yaml").write_text(MINE + "\n".join([*more, "sms: 132"]))
    mine = read_accelerator(tmp_path / "mine.yaml")
    assert (mine.link_kind, mine.link_domain, mine.link_bytes_per_s) == ("NVLink", 8, 450 * GB)
    assert (mine.idle_power_w, mine.busy_power_w) == (60, 650)
    assert (mine.l2_bytes, mine.sms) == (50 * 2**20, 132)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("memory_gb: 32\n", "", "missing key 'memory_gb'"),
        ("32", "32 GB", "3:12: memory_gb: expected a number, got '32 GB'"),
        ("memory_bandwidth", "memory_bandwith", "did you mean 'memory_bandwidth_gb_per_s'"),
        ("bfloat16", "bfloat", "2:15: unknown key 'peak_tflops.bfloat'; did you mean 'bfloat16'?"),
        ("{bfloat16: 200}", "{}", "2:14: peak_tflops: expected at least one dtype"),
        ("200", "-3", "2:25: peak_tflops.bfloat16: expected a number above 0, got -3"),
        ("32\n", "32\nlink: {rate: 3}\n", "4:8: unknown key 'link.rate'"),
        ("32\n", "32\naliases: x\n", "aliases: expected a list"),
        ("my-gpu", "7", "1:7: name: expected text, got 7"),
        ("32\n", "32\npower_w: {idle: 30}\n", "missing key 'power_w.busy'"),
        ("32\n", "32\npower_w: {idle: 30, busy: 20}\n", "power_w.busy: expected at least what it draws idle"),
        (MINE, "[]", "expected a mapping of an accelerator's figures"),
    ],
)
def test_wrong_hardware_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINE
    file = tmp_path / "mine.yaml"
    file.write_text(MINE.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_accelerator(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{file}:")
