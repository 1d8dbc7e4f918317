"""An accelerator: its peaks, memory and links, each figure from a named source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GB = 10**9
GIB = 2**30
# Where nothing names a link, GPUs talk over PCIe; 4.0 x16 is 31.5 GB/s a direction (PCI-SIG).
PCIE_GB_PER_S = 31.5


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
    link_bytes_per_s: float = PCIE_GB_PER_S * GB
    link_domain: int = 1
    pcie_bytes_per_s: float = PCIE_GB_PER_S * GB
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
