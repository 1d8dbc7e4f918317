"""`python -m tools.profile_gpu --name my-gpu --out my-gpu/`: measures this GPU in under ten minutes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .clock import CudaClock
from .collectives import measure_collectives
from .launches import LaunchBuilder
from .machine import describe_machine
from .plan import Case, plan_cases, shapes_of_model
from .profile import Outcome, profile
from .writer import TableWriter

# Share of the time for collectives, where there are several GPUs.
_COLLECTIVE_SHARE = 0.25
_FP8_CAPABILITY = (8, 9)


def main(words: Sequence[str] | None = None) -> int:
    """Parse, measure, write; returns the exit status."""
    options = _parser().parse_args(words)
    try:
        import torch
    except ImportError:
        print("profile_gpu: error: PyTorch is not installed", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("profile_gpu: error: PyTorch sees no CUDA GPU", file=sys.stderr)
        return 2
    started_s = time.monotonic()
    capability = torch.cuda.get_device_capability()
    dtypes = options.dtypes or ["bfloat16", *(["fp8"] if capability >= _FP8_CAPABILITY else [])]
    gpus = torch.cuda.device_count()
    shapes = shapes_of_model(options.config, options.tp) if options.config else ()
    cases = plan_cases(dtypes, torch.cuda.mem_get_info()[1], gpus, shapes)
    deadline_s = started_s + 60 * options.minutes
    writer = TableWriter(options.out, {"hardware": options.name, "version": torch.__version__})
    (options.out / "hardware").mkdir(exist_ok=True)
    (options.out / "hardware" / f"{options.name}.yaml").write_text(describe_machine(torch, options.name))
    outcome = _measure(torch, cases, writer, started_s, deadline_s, options)
    writer.close()
    _report(outcome, writer, options.out, time.monotonic() - started_s)
    return 0 if outcome.measured else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="profile_gpu", description=__doc__)
    parser.add_argument("--name", required=True, help="the GPU's name in the tables, e.g. h100-sxm")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--minutes", type=float, default=9.0, help="time to spend (default 9)")
    parser.add_argument("--dtypes", nargs="+", choices=("bfloat16", "float16", "fp8"), help="of GEMMs")
    parser.add_argument("--config", type=Path, help="config.json of a model whose layers to measure too")
    parser.add_argument("--tp", nargs="+", type=int, default=[1], help="tensor-parallel sizes for --config")
    parser.add_argument("--cold", action="store_true", help="flush the L2 cache before each launch")
    parser.add_argument("--no-compile", action="store_true", help="no torch.compile for elementwise kernels")
    return parser


def _measure(
    torch: Any, cases: Sequence[Case], writer: TableWriter, started_s: float, deadline_s: float, options: Any
) -> Outcome:
    collectives = [case for case in cases if case.table == "comm"]
    others = [case for case in cases if case.table != "comm"]
    share = _COLLECTIVE_SHARE if collectives else 0.0
    middle_s = deadline_s - share * (deadline_s - started_s)
    builder = LaunchBuilder(torch, compiled=not options.no_compile)
    clock = CudaClock(torch, cold=options.cold)
    outcome = profile(others, builder, clock, writer, middle_s, release=torch.cuda.empty_cache)
    if collectives:
        rows = [case.columns for case in collectives]
        for columns, seconds in measure_collectives(torch, rows, deadline_s):
            writer.write("comm", {"framework": "nccl", **columns}, "nccl", seconds)
            outcome.measured += 1
    return outcome


def _report(outcome: Outcome, writer: TableWriter, folder: Path, seconds: float) -> None:
    for table, rows in sorted(writer.rows.items()):
        print(f"{rows:6,} rows  {folder / table}.csv")
    for reason, count in sorted(outcome.skipped.items()):
        print(f"{count:6,} not run: {reason}")
    if outcome.left:
        print(f"{outcome.left:6,} cases for which there was no time (--minutes)")
    print(f"{seconds:.0f} s; next: simserve calibrate fit {folder} --hardware NAME --out NAME.yaml")


if __name__ == "__main__":
    sys.exit(main())
