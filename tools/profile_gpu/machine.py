"""What the driver says about the GPU, as the beginning of a file for hardware/."""

from __future__ import annotations

from typing import Any

# Dense 16-bit tensor FLOPs a clock and SM, from the datasheets' peak / (SMs x boost clock): A100
# 312e12 / (108 x 1.41e9), A40 149.7e12 / (84 x 1.74e9), L40S 362e12 / (142 x 2.52e9), H100 989e12 /
# (132 x 1.83e9), B200 2250e12 / (148 x 1.85e9), RTX PRO 6000 503e12 / (188 x 2.6e9). Consumer cards of
# 8.6 and 8.9 do half of it.
FLOPS_A_CLOCK = {(8, 0): 2048, (8, 6): 1024, (8, 9): 1024, (9, 0): 4096, (10, 0): 8192, (12, 0): 1024}
# Multiples of the 16-bit rate by dtype and compute capability from which tensor cores have it.
FASTER = {"int8": ((8, 0), 2), "fp8": ((8, 9), 2), "fp4": ((10, 0), 4)}
_DDR = 2  # transfers a memory clock


def describe_machine(torch: Any, name: str) -> str:
    """Return a hardware file (YAML) with what is known; rates computed from clocks are to be checked."""
    properties = torch.cuda.get_device_properties(0)
    _, total = torch.cuda.mem_get_info(0)
    sms, capability = properties.multi_processor_count, (properties.major, properties.minor)
    clock_hz = getattr(properties, "clock_rate", 0) * 1e3
    per_clock = FLOPS_A_CLOCK.get(capability, 0)
    sixteen = sms * clock_hz * per_clock / 1e12
    memory_hz = getattr(properties, "memory_clock_rate", 0) * 1e3
    bandwidth = _DDR * memory_hz * getattr(properties, "memory_bus_width", 0) / 8 / 1e9
    l2_mb = getattr(properties, "L2_cache_size", 0) / 2**20
    sram_kb = getattr(properties, "shared_memory_per_multiprocessor", 0) / 1024
    peaks = {"bfloat16": sixteen}
    peaks |= {dtype: times * sixteen for dtype, (first, times) in FASTER.items() if capability >= first}
    lines = [
        f"name: {name}",
        f'aliases: ["{properties.name}"]',
        "vendor: NVIDIA",
        f'architecture: "sm{capability[0]}{capability[1]}"',
        "peak_tflops: # dense; computed from clocks: check with the datasheet",
        *(f"  {dtype}: {rate:.1f}" for dtype, rate in peaks.items()),
        f"memory_gb: {round(total / 2**30)}",
        f"visible_memory_gib: {total / 2**30:.2f}",
        f"memory_bandwidth_gb_per_s: {bandwidth:.0f} # computed from clocks: check with the datasheet",
        *([f"l2_mb: {l2_mb:.0f}"] if l2_mb else []),
        f"sms: {sms}",
        *([f"sram_per_sm_kb: {sram_kb:.0f}"] if sram_kb else []),
        'source: "torch.cuda.get_device_properties"',
        'confidence: "check"',
    ]
    return "\n".join(lines) + "\n"
