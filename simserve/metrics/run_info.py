"""What a run cost the machine that ran it; everything that differs from one machine or run to the next."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Time and memory of the process that ran the simulation.

    Attributes:
        wall_s: Real time from the start of the simulation to its end.
        cpu_s: User and system time of the whole process so far, start-up included.
        peak_memory_bytes: The process's largest resident set so far.
        machine: System, processor count, Python and library versions.
    """

    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    machine: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return asdict(self)


def measure_run(started_s: float) -> RunInfo:
    """Return the run's figures now.

    Args:
        started_s: `time.perf_counter()` at the start of the simulation.
    """
    return RunInfo(
        wall_s=time.perf_counter() - started_s,
        cpu_s=time.process_time(),
        peak_memory_bytes=peak_memory_bytes(),
        machine={
            "system": platform.system(),
            "processor": platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            **{name: _version(name) for name in ("numpy", "simpy", "pyarrow") if name in sys.modules},
        },
    )


def peak_memory_bytes() -> int:
    """Return the process's largest resident set so far, 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    # getrusage(2): kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _version(module: str) -> str:
    return str(getattr(sys.modules[module], "__version__", "unknown"))
