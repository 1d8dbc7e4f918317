"""An accelerator: its peaks, memory and links, each figure from a named source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simserve.errors import InputError, nearest

GB = 10**9
GIB = 2**30
# Share of the nominal memory that an application sees where no file states it: H100 79.18 of 80 GiB,
# H200 139.8 of 141, A100 79.25 of 80 (hardware/*.yaml) all lie at 0.985 to 0.995.
_VISIBLE_SHARE = 0.99
# Where a file names no link, GPUs talk over PCIe; 4.0 x16 is 31.5 GB/s a direction (PCI-SIG).
_PCIE_DEFAULT_GB_PER_S = 31.5


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator.

    Attributes:
        name: Catalog name.
        aliases: Other spellings of it.
        vendor, architecture: As the vendor says.
        peak_flops: Dense peak rate by dtype (float16, bfloat16, fp8, int8, fp4), in FLOP/s.
        memory_bytes: Memory that an application sees (`torch.cuda.mem_get_info`'s total).
        memory_bandwidth_bytes_per_s: Datasheet peak.
        l2_bytes, sms, sram_per_sm_bytes: On-chip structure; None where unknown.
        link_kind: Name of the scale-up link ("NVLink4", "PCIe4", ...).
        link_bytes_per_s: Its rate a direction and accelerator.
        link_domain: How many accelerators it joins; 1 means none, only PCIe.
        pcie_bytes_per_s: Rate to the host, a direction.
        tdp_w: Board power; None where unknown.
        idle_power_w, busy_power_w: What it draws without and with a step executing; None unless measured.
        price_usd_per_hour: None unless sourced.
        source, confidence: Where the figures are from, and how sure they are.
        note: What to know about them.
    """

    name: str
    peak_flops: Mapping[str, float]
    memory_bytes: int
    memory_bandwidth_bytes_per_s: float
    aliases: tuple[str, ...] = ()
    vendor: str = ""
    architecture: str = ""
    l2_bytes: int | None = None
    sms: int | None = None
    sram_per_sm_bytes: int | None = None
    link_kind: str = "PCIe4"
    link_bytes_per_s: float = _PCIE_DEFAULT_GB_PER_S * GB
    link_domain: int = 1
    pcie_bytes_per_s: float = _PCIE_DEFAULT_GB_PER_S * GB
    tdp_w: float | None = None
    idle_power_w: float | None = None
    busy_power_w: float | None = None
    price_usd_per_hour: float | None = None
    source: str = "user"
    confidence: str = "user"
    note: str = ""

    def peak_for(self, dtype: str) -> float:
        """Return the peak rate of GEMMs in `dtype`, in FLOP/s.

        float16 and bfloat16 stand for each other; a format without units of its own runs at the
        16-bit rate (the weights are widened first), float32 at half of that.
        """
        if dtype in self.peak_flops:
            return self.peak_flops[dtype]
        sixteen = self.peak_flops.get("bfloat16") or self.peak_flops.get("float16")
        if sixteen is None:
            sixteen = min(self.peak_flops.values())
        return sixteen / 2 if dtype == "float32" else sixteen


_KEYS = {
    "name", "aliases", "vendor", "architecture", "peak_tflops", "memory_gb", "visible_memory_gib",
    "memory_bandwidth_gb_per_s", "l2_mb", "sms", "sram_per_sm_kb", "link", "pcie_gb_per_s", "tdp_w",
    "power_w", "price_usd_per_hour", "source", "confidence", "note",
}  # fmt: skip
_LINK_KEYS = {"kind", "gb_per_s", "domain"}
_POWER_KEYS = {"idle", "busy"}
_DTYPES = {"float16", "bfloat16", "fp8", "int8", "fp4", "float32"}


def read_accelerator(content: Mapping[str, Any], file: str | Path | None = None) -> Accelerator:
    """Build an accelerator from the mapping in its YAML file.

    Required: `name`, `peak_tflops` (a mapping by dtype, dense), `memory_gb`, `memory_bandwidth_gb_per_s`.
    Optional: `visible_memory_gib`, `link: {kind, gb_per_s, domain}`, `pcie_gb_per_s`, `sms`, `l2_mb`,
    `sram_per_sm_kb`, `tdp_w`, `power_w: {idle, busy}`, `price_usd_per_hour`, `aliases`, `vendor`,
    `architecture`, `source`, `confidence`, `note`. GB are decimal for bandwidths;
    `memory_gb` is the nominal size, which memory makers count in GiB.

    Raises:
        InputError: If a key is unknown, missing or wrong.
    """
    return _AcceleratorReader(content, str(file) if file is not None else None).read()


class _AcceleratorReader:
    """Reads one file's mapping; keeps the file's name for errors."""

    def __init__(self, content: Mapping[str, Any], file: str | None) -> None:
        self.content = content
        self.file = file

    def read(self) -> Accelerator:
        self._check_keys(self.content, _KEYS, "")
        link = self._mapping("link", required=False)
        self._check_keys(link, _LINK_KEYS, "link.")
        pcie = self._number("pcie_gb_per_s") or _PCIE_DEFAULT_GB_PER_S
        idle_w, busy_w = self._power()
        visible_gib = self._number("visible_memory_gib") or self._required("memory_gb") * _VISIBLE_SHARE
        return Accelerator(
            name=self._text("name", required=True),
            aliases=self._names("aliases"),
            vendor=self._text("vendor"),
            architecture=self._text("architecture"),
            peak_flops=self._peaks(),
            memory_bytes=int(visible_gib * GIB),
            memory_bandwidth_bytes_per_s=self._required("memory_bandwidth_gb_per_s") * GB,
            l2_bytes=self._scaled_integer("l2_mb", 2**20),
            sms=self._scaled_integer("sms", 1),
            sram_per_sm_bytes=self._scaled_integer("sram_per_sm_kb", 1024),
            link_kind=str(link.get("kind", "PCIe")),
            link_bytes_per_s=(self._number("gb_per_s", link, "link.") or pcie) * GB,
            link_domain=int(self._number("domain", link, "link.") or 1),
            pcie_bytes_per_s=pcie * GB,
            tdp_w=self._number("tdp_w"),
            idle_power_w=idle_w,
            busy_power_w=busy_w,
            price_usd_per_hour=self._number("price_usd_per_hour"),
            source=self._text("source") or "user",
            confidence=self._text("confidence") or "user",
            note=self._text("note"),
        )

    def _check_keys(self, content: Mapping[str, Any], valid: set[str], prefix: str) -> None:
        for key in content:
            if key not in valid:
                message = f"unknown key {prefix + str(key)!r} of a hardware file{nearest(str(key), valid)}"
                raise InputError(message, file=self.file)

    def _mapping(self, key: str, required: bool) -> Mapping[str, Any]:
        value = self.content.get(key)
        if value is None and not required:
            return {}
        if not isinstance(value, Mapping) or (required and not value):
            raise InputError(f"{key}: expected a mapping, got {value!r}", file=self.file)
        return value

    def _number(self, key: str, content: Mapping[str, Any] | None = None, prefix: str = "") -> float | None:
        value = (self.content if content is None else content).get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise InputError(f"{prefix}{key}: expected a positive number, got {value!r}", file=self.file)
        return float(value)

    def _required(self, key: str) -> float:
        value = self._number(key)
        if value is None:
            raise InputError(f"a hardware file needs {key!r}", file=self.file)
        return value

    def _scaled_integer(self, key: str, unit: int) -> int | None:
        value = self._number(key)
        return None if value is None else round(value * unit)

    def _text(self, key: str, required: bool = False) -> str:
        value = self.content.get(key)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or not value:
            raise InputError(f"{key}: expected a text, got {value!r}", file=self.file)
        return value

    def _names(self, key: str) -> tuple[str, ...]:
        value = self.content.get(key) or []
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise InputError(f"{key}: expected a list of names, got {value!r}", file=self.file)
        return tuple(value)

    def _power(self) -> tuple[float | None, float | None]:
        power = self._mapping("power_w", required=False)
        self._check_keys(power, _POWER_KEYS, "power_w.")
        idle_w, busy_w = (self._number(key, power, "power_w.") for key in ("idle", "busy"))
        if power and (idle_w is None or busy_w is None or idle_w > busy_w):
            raise InputError(f"power_w: expected idle and a busy of at least it, got {power}", file=self.file)
        return idle_w, busy_w

    def _peaks(self) -> dict[str, float]:
        peaks = self._mapping("peak_tflops", required=True)
        self._check_keys(peaks, _DTYPES, "peak_tflops.")
        result: dict[str, float] = {}
        for dtype in peaks:
            rate = self._number(dtype, peaks, "peak_tflops.")
            if rate is not None:
                result[dtype] = rate * 1e12
        if not result:
            raise InputError("peak_tflops: expected at least one dtype with a rate", file=self.file)
        return result
