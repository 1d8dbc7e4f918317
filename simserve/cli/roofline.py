"""`simserve roofline`: one step of a model, operator by operator, as a table, JSON or a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.report.table import format_number, print_table

if TYPE_CHECKING:
    from simserve.cost.build import CostSpec
    from simserve.report.roofline_rows import Roofline, RooflineRow

_HEADERS = (
    "operator", "launches", "FLOPs", "bytes", "FLOP/B", "bound", "time", "share", "of light", "calibration",
)  # fmt: skip


def measured_cost(tables: Sequence[str], aic: str | None) -> CostSpec | None:
    """Return the cost that looks kernels up in these tables first; None where there are none."""
    from simserve.cost.build import CostSpec

    return CostSpec("measured", tables=tuple(tables), aic=aic) if tables or aic else None


def print_roofline(found: Roofline, *, as_json: bool, html: str | None) -> None:
    """Print a roofline as a table or as one JSON object; write its picture to `html`."""
    if html is not None:
        from simserve.report.roofline_page import write_page

        write_page(found, Path(html))
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    print(_title(found))
    print(_peaks(found))
    changes = {row.operator: row for row in found.changed.rows} if found.changed else {}
    sources = _sources(found)
    headers = (*_HEADERS[:7], *(("what if", "change") if found.changed else ()), *_HEADERS[7:])
    lines = [_cells(row, changes.get(row.operator), sources) for row in found.step.rows]
    print_table(headers, [*lines, _total(found)])
    for source, number in sources.items():
        print(f"[{number}] {source}")
    if found.flash_blocks:
        _print_blocks(found)
    if html is not None:
        print(f"written to {html}")


def _print_blocks(found: Roofline) -> None:
    own = found.flash_blocks[0]
    print(f"\nFlashAttention blocks: the attention of a prompt of {found.options['prefill']:,} tokens")
    lines = [
        [
            f"{block.query_rows} x {block.key_rows}" + (" (the kernel's)" if block.chosen else ""),
            f"{block.sram_bytes / 1024:,.0f} KiB",
            f"{block.fitted_query_rows}",
            _time(block.seconds),
            _change(own.seconds, block.seconds),
        ]
        for block in found.flash_blocks
    ]
    print_table(("query rows x keys", "SRAM", "rows that fit", "time", "change"), lines)


def _title(found: Roofline) -> str:
    options = found.options
    parts = []
    if options["batch"]:
        parts.append(f"{options['batch']:,} decoding at {options['context']:,} tokens")
    if options["prefill"]:
        parts.append(f"a prompt of {options['prefill']:,} tokens")
    split = f"TP {options['tensor_parallel_size']}, PP {options['pipeline_parallel_size']}"
    if options["data_parallel_size"] > 1 or options["enable_expert_parallel"]:
        experts = ", expert parallel" if options["enable_expert_parallel"] else ""
        split += f", DP {options['data_parallel_size']}{experts}"
    what_if = f"; what if: {found.what_if}" if found.what_if else ""
    return f"{found.model} on {found.hardware}, {split}: a step with {' and '.join(parts)}{what_if}"


def _peaks(found: Roofline) -> str:
    step = found.step
    peaks = ", ".join(
        f"{dtype} {format_number(rate / 1e12)} TFLOP/s" for dtype, rate in step.peak_flops.items()
    )
    memory, link = step.bytes_per_s / 1e9, step.link_bytes_per_s / 1e9
    return f"peaks: {peaks}; memory {memory:,.0f} GB/s; link {format_number(link)} GB/s"


def _cells(row: RooflineRow, changed: RooflineRow | None, sources: dict[str, int]) -> list[str]:
    what_if = [_time(changed.seconds), _change(row.seconds, changed.seconds)] if changed else []
    error = "" if row.error_percent is None else f" {row.error_percent:.0f} %"
    return [
        row.operator,
        f"{row.launches:,}",
        _scaled(row.flops),
        _scaled(row.moved_bytes, "B"),
        f"{format_number(row.intensity)}" if row.intensity else "-",
        row.bound,
        _time(row.seconds),
        *what_if,
        f"{row.share:.1%}",
        "-" if row.speed_of_light is None else f"{row.speed_of_light:.0%}",
        f"{row.tier}{error} [{sources[row.source]}]" if row.source else row.tier,
    ]


def _total(found: Roofline) -> list[str]:
    step = found.step
    rows = step.rows
    what_if = []
    if found.changed:
        what_if = [_time(found.changed.step_s), _change(step.step_s, found.changed.step_s)]
    return [
        "step",
        f"{sum(row.launches for row in rows):,}",
        _scaled(sum(row.flops for row in rows)),
        _scaled(sum(row.moved_bytes for row in rows if row.bound != "communication"), "B"),
        "",
        "",
        _time(step.step_s),
        *what_if,
        "100.0%",
        f"{step.ideal_s / step.step_s:.0%}" if step.step_s else "-",
        "",
    ]


def _sources(found: Roofline) -> dict[str, int]:
    """Number the sources, in the order of the rows."""
    different = dict.fromkeys(row.source for row in found.step.rows if row.source)
    return {source: number for number, source in enumerate(different, start=1)}


def _scaled(value: float, unit: str = "") -> str:
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip() if value else "-"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.1f} us"


def _change(before: float, after: float) -> str:
    return f"{after / before - 1:+.0%}" if before else "-"
