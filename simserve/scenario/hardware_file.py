"""What a hardware file says of an accelerator: `hardware/*.yaml`, or the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from simserve.devices.accelerator import GB, GIB, PCIE_GB_PER_S, Accelerator
from simserve.scenario.section import Section, combination_error
from simserve.scenario.section_file import check_section, read_mapping

# Share of the nominal memory that an application sees where no file states it: H100 79.18 of 80 GiB,
# H200 139.8 of 141, A100 79.25 of 80 (hardware/*.yaml) all lie at 0.985 to 0.995.
_VISIBLE_SHARE = 0.99

_Positive = Annotated[float, Field(gt=0)]


class PeakTflops(Section):
    """Dense peak rates, in TFLOP/s."""

    float32: _Positive | None = None
    float16: _Positive | None = None
    bfloat16: _Positive | None = None
    fp8: _Positive | None = None
    int8: _Positive | None = None
    fp4: _Positive | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not self.known():
            raise ValueError("expected at least one dtype with a rate, such as bfloat16")
        return self

    def known(self) -> dict[str, float]:
        """Return the rates that are given, in FLOP/s."""
        return {dtype: rate * 1e12 for dtype, rate in self if rate is not None}


class Link(Section):
    """The link between accelerators."""

    kind: str = "PCIe"
    gb_per_s: _Positive | None = Field(default=None, description="A direction and accelerator; else PCIe's.")
    domain: Annotated[int, Field(ge=1)] = Field(default=1, description="How many it joins; 1 is none.")


class Power(Section):
    """What an accelerator draws, in W."""

    idle: _Positive = Field(description="Without a step executing, in W.")
    busy: _Positive = Field(description="While a step executes, in W.")

    @model_validator(mode="after")
    def _busy_is_more(self) -> Self:
        if self.busy < self.idle:
            raise combination_error("busy", f"expected at least what it draws idle, {self.idle:g}")
        return self


class HardwareFile(Section):
    """One accelerator. GB are decimal in rates; `memory_gb` is nominal, which makers count in GiB."""

    name: str = Field(min_length=1, description="The accelerator's name.")
    aliases: tuple[str, ...] = Field(default=(), strict=False)
    vendor: str = ""
    architecture: str = ""
    peak_tflops: PeakTflops = Field(description="dense peak rates by dtype, in TFLOP/s")
    memory_gb: _Positive = Field(description="nominal memory, in GB")
    visible_memory_gib: _Positive | None = None
    memory_bandwidth_gb_per_s: _Positive = Field(description="the datasheet's memory bandwidth, in GB/s")
    l2_mb: _Positive | None = None
    sms: Annotated[int, Field(ge=1)] | None = None
    sram_per_sm_kb: _Positive | None = None
    link: Link = Link()
    pcie_gb_per_s: _Positive = PCIE_GB_PER_S
    tdp_w: _Positive | None = None
    power_w: Power | None = None
    price_usd_per_hour: _Positive | None = None
    source: str = "user"
    confidence: str = "user"
    note: str = ""

    def accelerator(self) -> Accelerator:
        """Return what the file describes."""
        visible_gib = self.visible_memory_gib or self.memory_gb * _VISIBLE_SHARE
        return Accelerator(
            name=self.name,
            aliases=self.aliases,
            vendor=self.vendor,
            architecture=self.architecture,
            peak_flops=self.peak_tflops.known(),
            memory_bytes=int(visible_gib * GIB),
            memory_bandwidth_bytes_per_s=self.memory_bandwidth_gb_per_s * GB,
            l2_bytes=None if self.l2_mb is None else round(self.l2_mb * 2**20),
            sms=self.sms,
            sram_per_sm_bytes=None if self.sram_per_sm_kb is None else round(self.sram_per_sm_kb * 1024),
            link_kind=self.link.kind,
            link_bytes_per_s=(self.link.gb_per_s or self.pcie_gb_per_s) * GB,
            link_domain=self.link.domain,
            pcie_bytes_per_s=self.pcie_gb_per_s * GB,
            tdp_w=self.tdp_w,
            idle_power_w=None if self.power_w is None else self.power_w.idle,
            busy_power_w=None if self.power_w is None else self.power_w.busy,
            price_usd_per_hour=self.price_usd_per_hour,
            source=self.source,
            confidence=self.confidence,
            note=self.note,
        )


def read_accelerator(path: Path) -> Accelerator:
    """Return the accelerator that a hardware file describes.

    Raises:
        ScenarioError: For all that is wrong in it, with file, line, column and the nearest valid name.
    """
    data, places = read_mapping(path, "a mapping of an accelerator's figures")
    return check_section(HardwareFile, data, places).accelerator()
