"""What if the hardware were faster or slower: factors on an accelerator's rates, as in `bandwidth=2x`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace

from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError, UnknownNameError

_FACTOR = re.compile(r"^\s*(?P<number>[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*[xX]?\s*$")


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Factors on the rates of an accelerator; what its kernels achieve of them stays.

    Attributes:
        bandwidth: On the memory bandwidth.
        flops: On the peak rate of every dtype.
        link: On the links between accelerators: scale-up link and PCIe.
    """

    bandwidth: float = 1.0
    flops: float = 1.0
    link: float = 1.0

    def __str__(self) -> str:
        changed = [f"{name}={factor:g}x" for name, factor in asdict(self).items() if factor != 1.0]
        return ",".join(changed) or "as it is"

    def scale(self, accelerator: Accelerator) -> Accelerator:
        """Return the accelerator with these factors; nothing is mutated."""
        return replace(
            accelerator,
            peak_flops={dtype: rate * self.flops for dtype, rate in accelerator.peak_flops.items()},
            memory_bandwidth_bytes_per_s=accelerator.memory_bandwidth_bytes_per_s * self.bandwidth,
            link_bytes_per_s=accelerator.link_bytes_per_s * self.link,
            pcie_bytes_per_s=accelerator.pcie_bytes_per_s * self.link,
        )


def parse_what_if(text: str) -> WhatIf:
    """Read `bandwidth=2x,flops=1.5x,link=0.5x`; the `x` may be left out.

    Raises:
        UnknownNameError: For a rate that cannot be changed.
        InputError: For a factor that is no positive number, and for one given twice.
    """
    factors: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        if name not in WhatIf.__slots__:
            raise UnknownNameError("what-if rate", name, WhatIf.__slots__)
        match = _FACTOR.match(value)
        factor = _number(match["number"]) if equals and match else 0.0
        if not 0 < factor < float("inf"):
            raise InputError(f"--what-if {name}: expected a positive factor like 2x, got {value.strip()!r}")
        if name in factors:
            raise InputError(f"--what-if {name}: given twice")
        factors[name] = factor
    return WhatIf(**factors)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
